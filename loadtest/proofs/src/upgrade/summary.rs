//! What a run found: a table for people as it goes, and names for programs, which stay.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct UpgradeSummary {
    /// The same seed gives the same clients.
    pub seed: u64,
    /// The commit of the earlier release.
    pub from: String,
    pub holds: bool,
    /// The promise that was broken on purpose; null in an honest run.
    pub broken: Option<&'static str>,
    /// The versions of the wire that the old and the new release speak.
    pub wires: [u16; 2],
    /// How many migrations the new release brought, over all shards.
    pub migrations: usize,
    pub acknowledged: u64,
    pub refused: u64,
    /// Requests that no gateway answered, whatever was tried.
    pub failed: u64,
    pub unknown: u64,
    #[serde(flatten)]
    pub promises: BTreeMap<&'static str, u64>,
    /// Attempts that were not answered, by what came instead; the next attempt may have been.
    pub errors: BTreeMap<String, u64>,
    pub steps: Vec<Step>,
    pub took_s: u64,
}

/// One thing that an operator did, with what clients saw until the next one.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub what: String,
    pub took_ms: u64,
    pub acknowledged: u64,
    pub asked_again: u64,
    pub failed: u64,
}

impl UpgradeSummary {
    pub fn broken_promises(&self) -> Vec<String> {
        let failed = [("failed", self.failed)];
        let counts = failed.into_iter().chain(self.promises.iter().map(|(name, count)| (*name, *count)));
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect()
    }

    /// The last lines for people.
    pub fn show(&self) {
        let count = |name: &str| self.promises.get(name).copied().unwrap_or_default();
        let verified = if count("verify_failures") + count("books_off") == 0 { "green" } else { "red" };
        eprintln!();
        for (what, found) in [
            ("acknowledged", self.acknowledged.to_string()),
            ("failed", self.failed.to_string()),
            ("lost", count("lost").to_string()),
            ("doubled", count("doubled").to_string()),
            ("unequal replays", count("unequal_replays").to_string()),
            ("picopay verify", verified.to_owned()),
        ] {
            eprintln!("  {what:<16} {found:>8}");
        }
        let verdict = if self.holds { "the upgrade holds" } else { "the upgrade does NOT hold" };
        eprintln!("  {verdict}: {} to the working tree and back, seed {}", self.from, self.seed);
    }
}

impl Step {
    pub fn show_head() {
        eprintln!(
            "{:<44} {:>8} {:>13} {:>12} {:>7}",
            "step", "took", "acknowledged", "asked again", "failed"
        );
    }

    pub fn show(&self) {
        let took = Duration::from_millis(self.took_ms).as_secs_f64();
        let Self { what, acknowledged, asked_again, failed, .. } = self;
        eprintln!("{what:<44} {took:>6.1} s {acknowledged:>13} {asked_again:>12} {failed:>7}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_that_was_broken_is_named_with_its_count() {
        let mut summary = UpgradeSummary {
            seed: 1,
            from: "v1".to_owned(),
            holds: false,
            broken: None,
            wires: [3, 4],
            migrations: 2,
            acknowledged: 10,
            refused: 0,
            failed: 0,
            unknown: 0,
            promises: BTreeMap::from([("lost", 0), ("doubled", 2)]),
            errors: BTreeMap::new(),
            steps: Vec::new(),
            took_s: 1,
        };
        assert_eq!(summary.broken_promises(), ["doubled 2"]);
        summary.failed = 3;
        assert_eq!(summary.broken_promises(), ["failed 3", "doubled 2"]);
    }
}
