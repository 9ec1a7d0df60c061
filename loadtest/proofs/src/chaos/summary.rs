//! What a run found. `summary.json` and the last line have these names, which stay.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::conditions::Conditions;
use crate::findings::{Findings, Promise};

#[derive(Debug, Clone, Serialize)]
pub struct ChaosSummary {
    /// The same seed gives the same clients and the same faults.
    pub seed: u64,
    pub holds: bool,
    /// The promise that was broken on purpose; null in an honest run.
    pub broken: Option<&'static str>,
    pub conditions: Conditions,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub unknown_resolved: u64,
    #[serde(flatten)]
    pub promises: BTreeMap<&'static str, u64>,
    pub faults: BTreeMap<String, u64>,
    pub recovery_ms: Recovery,
    /// By fault, from its healing; of a fault that another part has to make up for, while it went on.
    pub waits_ms: BTreeMap<String, u128>,
    pub errors: BTreeMap<String, u64>,
    pub stalls: usize,
    pub asked_again: u64,
    pub took_s: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    pub p50: u64,
    pub max: u64,
}

impl Recovery {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let ms = |time: Option<&Duration>| {
            time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        Self { p50: ms(times.get(times.len() / 2)), max: ms(times.last()) }
    }
}

pub fn counts(findings: &Findings) -> BTreeMap<&'static str, u64> {
    Promise::ALL.into_iter().map(|(promise, name)| (name, findings.count(promise))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_told_by_its_middle_and_its_longest() {
        let times = [30, 10, 20].map(Duration::from_millis).to_vec();
        assert_eq!(Recovery::of(times), Recovery { p50: 20, max: 30 });
        assert_eq!(Recovery::of(Vec::new()), Recovery::default());
    }
}
