//! Sets of slots, written as the runs that they form.

use std::fmt;
use std::str::FromStr;

use picopay_shared::slot::SLOT_COUNT;
use serde::Serialize;

/// Runs that a text names before it only counts the rest: what fits a table's column.
const RUNS_SHOWN_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Run {
    pub first: u16,
    pub last: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SlotRuns(Vec<Run>);

impl SlotRuns {
    pub fn count(&self) -> usize {
        self.0.iter().map(|run| usize::from(run.last - run.first) + 1).sum()
    }

    pub fn in_full(&self) -> String {
        let runs: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        runs.join(", ")
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u16> for SlotRuns {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for slot in slots {
            match runs.last_mut() {
                Some(run) if slot == run.last + 1 => run.last = slot,
                _ => runs.push(Run { first: slot, last: slot }),
            }
        }
        Self(runs)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}–{}", self.first, self.last)
        }
    }
}

impl FromStr for Run {
    type Err = String;

    /// Reads `7`, `0-99` or, as it is printed, `0–99`.
    fn from_str(text: &str) -> Result<Self, String> {
        let slot = |text: &str| text.trim().parse::<u16>().ok().filter(|slot| *slot < SLOT_COUNT);
        let (first, last) = text.split_once(['-', '–']).unwrap_or((text, text));
        match (slot(first), slot(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "write a slot, or a range of them, from 0 to {}: for example 7 or 0-99",
                SLOT_COUNT - 1
            )),
        }
    }
}

impl fmt::Display for SlotRuns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, run) in self.0.iter().take(RUNS_SHOWN_MAX).enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(formatter, "{comma}{run}")?;
        }
        match self.0.len().saturating_sub(RUNS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more runs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_written_as_the_runs_they_form() {
        for (slots, text) in [
            (vec![], ""),
            (vec![7], "7"),
            (vec![0, 1, 2], "0–2"),
            (vec![0, 1, 3, 5, 6], "0–1, 3, 5–6"),
            (vec![0, 2, 4, 6, 8], "0, 2, 4 and 2 more runs"),
        ] {
            let runs: SlotRuns = slots.iter().copied().collect();
            assert_eq!((runs.to_string().as_str(), runs.count()), (text, slots.len()));
        }
        let runs: SlotRuns = [0, 2, 4, 6, 8].into_iter().collect();
        assert_eq!(runs.in_full(), "0, 2, 4, 6, 8");
    }

    #[test]
    fn a_run_is_read_as_it_is_written() {
        for (text, expected) in [
            ("7", Some((7, 7))),
            ("0-99", Some((0, 99))),
            ("0–99", Some((0, 99))),
            ("4095", Some((4095, 4095))),
        ] {
            assert_eq!(text.parse::<Run>().ok().map(|run| (run.first, run.last)), expected);
        }
        for text in ["", "-", "9-3", "4096", "0-4096", "1-2-3", "a", "-1"] {
            assert!(text.parse::<Run>().is_err(), "{text:?}");
        }
    }
}
