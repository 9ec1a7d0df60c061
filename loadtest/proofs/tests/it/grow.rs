//! A cluster grows under load, in short: that users lose nothing by it, and that the run would not let a broken fence pass.

use crate::run_of::Run;

/// A machine that runs other tests says nothing about speed.
const OF_TIME: [&str; 3] = ["longest_pause_ms", "p99_moving_ms", "rows_moved_per_second"];

#[test]
fn a_shard_joins_and_another_is_emptied_and_no_user_loses_anything() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::of(&["grow", "--quick", "--seed", "7"], folder.path());
    let missed = run.summary["missed"].as_array().unwrap();
    assert!(
        missed.iter().all(|bar| OF_TIME.contains(&bar.as_str().unwrap())),
        "{}\n{}",
        run.summary,
        run.told
    );
    assert_eq!(run.exit_code, Some(i32::from(!missed.is_empty())), "{}", run.told);
    assert!(run.count("acknowledged") > 500 && run.count("refused") > 0, "{}", run.summary);
    assert!(run.count("rows_moved") > 10_000 && run.count("asked_again") > 500, "{}", run.summary);
    let slots = run.summary["slots"].as_object().unwrap();
    assert!(slots.len() == 3 && slots.values().all(|count| [1365, 1366].contains(&count.as_u64().unwrap())));
    assert!(!folder.path().join("acks.jsonl").exists(), "nobody needs it when all is well");
}

#[test]
fn a_run_fails_when_writes_pass_the_fence_of_a_shard_that_does_not_own_their_slot() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::of(&["grow", "--quick", "--seed", "7", "--broken", "skip-fence"], folder.path());
    assert_eq!((&run.summary["holds"], run.exit_code), (&false.into(), Some(1)), "{}", run.told);
    // Money that is not where it should be; or the operator's command finds two owners, or sides that differ, and goes no further.
    let broken = ["lost", "doubled", "unequal_replays", "incomplete_reads", "rows_out_of_place"];
    let is_refused = run.summary["did_grow"] == false
        && ["the source has", "is owned by"].iter().any(|found| run.told.contains(found));
    let is_broken = broken.into_iter().any(|name| run.count(name) > 0);
    assert!(is_refused || is_broken, "{}\n{}", run.summary, run.told);
    assert!(run.told.contains("BROKEN"), "{}", run.told);
}
