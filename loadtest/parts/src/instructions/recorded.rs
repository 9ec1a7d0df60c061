//! The figures that stand in the repository, and how new ones compare.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// Beyond this a charge has become dearer or cheaper. Another compiler moves it by some percent.
const CHANGE_MAX_PERCENT: u64 = 10;

const HEAD: &str = "\
# Instructions for one charge on the way that waits for nobody, counted by callgrind: architecture, charges in a batch, instructions.
# Renew it in the commit that changes them: make bench-pure, then target/release/picopay-instructions renew loadtest/parts/instructions.txt
";

/// Instructions for a charge by the size of its batch, on this architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded(BTreeMap<u32, u64>);

impl Recorded {
    pub fn note(&mut self, batch: u32, instructions: u64) {
        self.0.insert(batch, instructions);
    }

    /// # Errors
    /// When there is no such file, or it has no figure of this architecture.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let recorded = Self::parse(&text).with_context(|| format!("{} makes no sense", file.display()))?;
        ensure!(!recorded.0.is_empty(), "{} has no figures for {ARCH}", file.display());
        Ok(recorded)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut recorded = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let (architecture, batch, instructions) = (words.next()?, words.next()?, words.next()?);
            if architecture == ARCH {
                recorded.note(batch.parse().ok()?, instructions.parse().ok()?);
            }
        }
        Some(recorded)
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        fs::write(file, self.text()).with_context(|| format!("{} cannot be written", file.display()))
    }

    fn text(&self) -> String {
        let lines = self.0.iter().map(|(batch, instructions)| format!("{ARCH} {batch} {instructions}\n"));
        std::iter::once(HEAD.to_owned()).chain(lines).collect()
    }

    pub fn compare(&self, counted: &Self) -> Verdict {
        let compared = self.0.iter().map(|(batch, recorded)| Compared {
            batch: *batch,
            recorded: *recorded,
            counted: counted.0.get(batch).copied(),
        });
        Verdict(compared.collect())
    }
}

#[derive(Debug)]
pub struct Verdict(Vec<Compared>);

#[derive(Debug)]
struct Compared {
    batch: u32,
    recorded: u64,
    counted: Option<u64>,
}

impl Verdict {
    pub fn is_kept(&self) -> bool {
        self.0.iter().all(Compared::is_kept)
    }
}

impl Compared {
    fn is_kept(&self) -> bool {
        self.counted.is_some_and(|counted| counted * 100 <= self.recorded * (100 + CHANGE_MAX_PERCENT))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.0 {
            let (batch, recorded) = (one.batch, one.recorded);
            let Some(counted) = one.counted else {
                writeln!(out, "batches of {batch:>3}: recorded {recorded}, not counted")?;
                continue;
            };
            let verdict = if !one.is_kept() {
                "TOO MANY"
            } else if counted * 100 < recorded * (100 - CHANGE_MAX_PERCENT) {
                "fewer: renew the file, or the gain may be lost again"
            } else {
                "kept"
            };
            #[expect(clippy::cast_precision_loss, reason = "some ten thousand instructions")]
            let percent = (counted as f64 / recorded.max(1) as f64 - 1.0) * 100.0;
            writeln!(
                out,
                "batches of {batch:>3}: recorded {recorded}, counted {counted} ({percent:+.1} %): {verdict}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[(u32, u64)]) -> Recorded {
        Recorded(figures.iter().copied().collect())
    }

    #[test]
    fn a_charge_that_takes_11_percent_more_fails_and_both_figures_are_told() {
        let recorded = of(&[(1, 40_000), (256, 30_000)]);
        for (figures, is_kept, told) in [
            ([(1, 40_000), (256, 30_000)], true, "recorded 40000, counted 40000 (+0.0 %): kept"),
            ([(1, 44_000), (256, 30_000)], true, "recorded 40000, counted 44000 (+10.0 %): kept"),
            ([(1, 44_400), (256, 30_000)], false, "recorded 40000, counted 44400 (+11.0 %): TOO MANY"),
            ([(1, 10_000), (256, 33_300)], false, "recorded 30000, counted 33300 (+11.0 %): TOO MANY"),
            ([(1, 30_000), (256, 30_000)], true, "counted 30000 (-25.0 %): fewer"),
            ([(1, 40_000), (16, 30_000)], false, "recorded 30000, not counted"),
        ] {
            let verdict = recorded.compare(&of(&figures));
            assert_eq!(verdict.is_kept(), is_kept, "{verdict}");
            assert!(verdict.to_string().contains(told), "{told} in {verdict}");
        }
    }

    #[test]
    fn what_was_written_is_read_again_and_other_architectures_do_not_count() {
        let recorded = of(&[(1, 40_000), (256, 30_000)]);
        let text = recorded.text();
        assert_eq!(Recorded::parse(&(text + "pdp11 16 7\n")), Some(recorded));
        assert_eq!(Recorded::parse(&format!("{ARCH} 1 many\n")), None);
    }

    #[test]
    fn the_repository_has_figures_for_every_size_of_batch() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
        let text = fs::read_to_string(file).unwrap().replace("x86_64", ARCH);
        let batches: Vec<u32> = Recorded::parse(&text).unwrap().0.into_keys().collect();
        assert_eq!(batches, crate::BATCHES);
    }
}
