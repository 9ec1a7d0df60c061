//! The chaos run, in short: that PicoPay survives it, and that it would not let a broken promise pass.

use std::path::Path;

use crate::run_of::Run;

fn run(folder: &Path, minutes: &str, more: &[&str]) -> Run {
    Run::of(&[&["chaos", "--seed", "7", "--minutes", minutes], more].concat(), folder)
}

#[test]
fn what_was_acknowledged_survives_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), "1.25", &[]);
    assert_eq!((&run.summary["holds"], run.exit_code), (&true.into(), Some(0)), "{}", run.told);
    for name in ["lost", "doubled", "unequal_replays", "unresolved", "forbidden_errors", "wrong_histories"] {
        assert_eq!(run.count(name), 0, "{name}");
    }
    assert_eq!(run.summary["conditions"]["nodes_per_shard"], 1, "as this seed has it");
    let faults = run.summary["faults"].as_object().unwrap();
    assert!(faults.len() >= 5, "{}", run.told);
    assert!(run.count("acknowledged") > 100 && run.count("unknown") > 0, "{}", run.summary);
    assert_eq!(run.count("unknown"), run.count("unknown_resolved"));
}

#[test]
fn a_run_fails_when_answers_leave_before_writes_are_safe() {
    fails_when("answer-before-commit", "lost");
}

#[test]
fn a_run_fails_when_keys_are_not_checked() {
    fails_when("skip-key-check", "doubled");
}

#[test]
fn a_run_fails_when_a_void_releases_nothing() {
    fails_when("forget-release", "verify_failures");
}

#[test]
fn a_run_fails_when_a_credit_is_given_again() {
    fails_when("double-credit", "verify_failures");
}

fn fails_when(broken: &str, count: &str) {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), "0.6", &["--broken", broken]);
    assert_eq!((&run.summary["holds"], run.exit_code), (&false.into(), Some(1)), "{}", run.told);
    assert!(run.count(count) > 0, "{}", run.summary);
    assert!(run.told.contains(&format!("BROKEN {count}: ")), "{}", run.told);
    assert!(folder.path().join("logs/shard-1-node-1.log").is_file(), "the logs are kept");
}
