//! The chaos run, in short: that PicoPay survives it, and that it would not let a broken promise pass.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a run printed last, and whether it says that all is well.
struct Run {
    summary: Value,
    exit_code: Option<i32>,
    told: String,
}

impl Run {
    fn count(&self, name: &str) -> u64 {
        self.summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {}\n{}", self.summary, self.told))
    }
}

fn run(folder: &Path, minutes: &str, more: &[&str]) -> Run {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_picopay-loadtest"));
    chaos.args(["chaos", "--seed", "7", "--minutes", minutes, "--out"]).arg(folder).args(more);
    let output = chaos.output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_else(|| panic!("it said nothing: {told}"));
    let summary: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {said}{told}"));
    let written = std::fs::read_to_string(folder.join("summary.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), summary);
    Run { summary, exit_code: output.status.code(), told: told.into_owned() }
}

/// Under its own name, which no other build makes, so that it replaces nothing.
fn build_broken_node() {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--workspace", "--features", "picopay-shard-node/broken"]);
    build.args(["--bin", "picopay-node-broken"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(build.status().unwrap().success());
}

#[test]
fn what_was_acknowledged_survives_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), "1.25", &[]);
    assert_eq!((&run.summary["holds"], run.exit_code), (&true.into(), Some(0)), "{}", run.told);
    for name in ["lost", "doubled", "unequal_replays", "unresolved", "forbidden_errors", "wrong_histories"] {
        assert_eq!(run.count(name), 0, "{name}");
    }
    // It was no walk in the park.
    let faults = run.summary["faults"].as_object().unwrap();
    assert!(faults.len() >= 5, "{}", run.told);
    assert!(run.count("acknowledged") > 100 && run.count("unknown") > 0, "{}", run.summary);
    assert_eq!(run.count("unknown"), run.count("unknown_resolved"));
}

#[test]
fn a_run_fails_when_answers_leave_before_commit_or_keys_are_not_checked() {
    build_broken_node();
    for (broken, count) in [("answer-before-commit", "lost"), ("skip-key-check", "doubled")] {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), "0.6", &["--broken", broken]);
        assert_eq!(
            (&run.summary["holds"], run.exit_code),
            (&false.into(), Some(1)),
            "{broken}: {}",
            run.told
        );
        assert!(run.count(count) > 0, "{broken}: {}", run.summary);
        assert!(run.told.contains(&format!("BROKEN {count}: ")), "{broken}: {}", run.told);
        assert!(folder.path().join("logs/shard-1-node-1.log").is_file(), "the logs are kept");
    }
}
