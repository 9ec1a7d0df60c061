//! The folder that a run writes into: acknowledgements, its summary and, if a promise was broken, all logs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use picopay_local::LocalCluster;
use serde::Serialize;

use super::clock::Clock;
use crate::findings::Findings;

mod log_lines;

#[derive(Debug)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub fn acks(&self) -> PathBuf {
        self.0.join("acks.jsonl")
    }

    fn summary(&self) -> PathBuf {
        self.0.join("summary.json")
    }

    fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// What an earlier run left would be taken for this one's.
    pub fn clear(&self) -> anyhow::Result<()> {
        let named = || format!("{} cannot be made ready", self.0.display());
        fs::create_dir_all(&self.0).with_context(named)?;
        for file in [self.acks(), self.summary()] {
            if file.exists() {
                fs::remove_file(file).with_context(named)?;
            }
        }
        if self.logs().exists() {
            fs::remove_dir_all(self.logs()).with_context(named)?;
        }
        Ok(())
    }

    /// Says what was found, with what was logged about it.
    pub fn show_findings(
        &self,
        findings: &Findings,
        cluster: &LocalCluster,
        clock: Clock,
    ) -> anyhow::Result<()> {
        let shown = findings.shown();
        if shown.is_empty() {
            return Ok(());
        }
        self.keep_logs(cluster)?;
        for finding in shown {
            eprintln!("\nBROKEN {}: {}", finding.promise.name(), finding.text);
            let at = finding.at.map(|at| clock.unix_ms(at));
            for line in log_lines::around(&finding, at, &self.logs()) {
                eprintln!("    {line}");
            }
        }
        eprintln!("\nAll logs are in {}", self.logs().display());
        Ok(())
    }

    pub fn keep_logs(&self, cluster: &LocalCluster) -> anyhow::Result<()> {
        fs::create_dir_all(self.logs())?;
        for process in cluster.processes() {
            let from = process.log_file();
            fs::copy(from, self.logs().join(from.file_name().context("a log has a name")?))?;
        }
        Ok(())
    }

    pub fn write_summary(&self, summary: &impl Serialize) -> anyhow::Result<()> {
        let path = self.summary();
        let text = serde_json::to_string_pretty(summary)? + "\n";
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }
}
