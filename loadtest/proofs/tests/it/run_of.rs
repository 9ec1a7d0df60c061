//! A long run of the load test as a process: what it printed last, and whether it says that all is well.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

pub struct Run {
    pub summary: Value,
    pub exit_code: Option<i32>,
    pub told: String,
}

impl Run {
    pub fn of(arguments: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picopay-proofs"));
        let output = command.args(arguments).arg("--out").arg(folder).output().unwrap();
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let last = said.lines().last().unwrap_or_else(|| panic!("it said nothing: {told}"));
        let summary: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {said}{told}"));
        let written = std::fs::read_to_string(folder.join("summary.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), summary);
        Self { summary, exit_code: output.status.code(), told: told.into_owned() }
    }

    pub fn count(&self, name: &str) -> u64 {
        self.summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {}\n{}", self.summary, self.told))
    }
}
