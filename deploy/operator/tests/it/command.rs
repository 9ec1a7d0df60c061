//! The program under test, run as its own process.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// With code 1 and one line on standard error.
    #[track_caller]
    pub fn failure(self, needle: &str) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(needle), "{needle:?} in {self:?}");
        self
    }
}

pub fn picopay<S: AsRef<OsStr>>(cluster: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = bare_picopay(args);
    command.arg("--cluster").arg(cluster);
    command
}

pub fn bare_picopay<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picopay"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PICOPAY_")) {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub async fn run(mut command: Command) -> Said {
    let output = command.output().await.expect("the program starts");
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("it prints text"),
        err: String::from_utf8(output.stderr).expect("it prints text"),
    }
}
