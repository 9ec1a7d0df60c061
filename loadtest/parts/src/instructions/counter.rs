//! Who counts, and what of it is one charge's.

use std::env;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::instructions::way::CHARGES_MAX;

/// Charges of the shorter run: its start, and what is done once only, is taken away from the longer one.
const CHARGES_MIN: u32 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    Callgrind,
    /// The processor itself, read by `perf stat`.
    Processor,
}

/// Instructions for one charge in batches of this size.
///
/// # Errors
/// When the counter is not there.
pub fn per_charge(counter: Counter, batch: u32) -> anyhow::Result<u64> {
    let few = counter.count(batch, CHARGES_MIN / batch)?;
    let many = counter.count(batch, CHARGES_MAX / batch)?;
    Ok((many.saturating_sub(few)) / u64::from(CHARGES_MAX - CHARGES_MIN))
}

impl Counter {
    fn count(self, batch: u32, batches: u32) -> anyhow::Result<u64> {
        let this = env::current_exe()?;
        let (name, arguments): (&str, &[&str]) = match self {
            Self::Callgrind => ("valgrind", &["--tool=callgrind", "--callgrind-out-file=/dev/null"]),
            Self::Processor => ("perf", &["stat", "--field-separator=,", "--event=instructions:u", "--"]),
        };
        let mut command = Command::new(name);
        command.args(arguments).arg(this).arg("go").args([batch.to_string(), batches.to_string()]);
        let output = command.output().with_context(|| format!("{name} cannot be started"))?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} failed ({}): {told}", output.status);
        self.read(&told).with_context(|| format!("{name} did not count: {told}"))
    }

    /// `==71== Collected : 12345678`, and `12345678,,instructions:u,…`.
    fn read(self, told: &str) -> Option<u64> {
        match self {
            Self::Callgrind => {
                let line = told.lines().find_map(|line| line.split_once("Collected : "))?;
                line.1.trim().parse().ok()
            }
            Self::Processor => {
                let line = told.lines().find(|line| line.contains("instructions:u"))?;
                line.split(',').next()?.parse().ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_and_none_is_no_count() {
        let callgrind =
            "==71== Callgrind, a call-graph generating cache profiler\n==71== Collected : 12345678\n";
        for (counter, told, expected) in [
            (Counter::Callgrind, callgrind, Some(12_345_678)),
            (Counter::Callgrind, "==71== Collected : \n", None),
            (Counter::Processor, "12345678,,instructions:u,5204153,100.00,,\n", Some(12_345_678)),
            (Counter::Processor, "<not supported>,,instructions:u,0,100.00,,\n", None),
            (Counter::Processor, "", None),
        ] {
            assert_eq!(counter.read(told), expected, "{told}");
        }
    }
}
