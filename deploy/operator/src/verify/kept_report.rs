//! The report as a file, for whoever looks later.

use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::VerifyReport;

#[derive(Serialize)]
struct KeptReport<'a> {
    /// When it was written: Unix time in milliseconds.
    at_ms: u64,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

/// Replaces the file as a whole, so that nobody reads half a report.
pub fn write(file: &Path, report: &VerifyReport) -> anyhow::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let text = serde_json::to_string_pretty(&KeptReport { at_ms, report })
        .expect("reports are plain structs with text keys");
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut new = NamedTempFile::new_in(folder)?;
        writeln!(new, "{text}")?;
        new.persist(file).map_err(|error| error.error)
    };
    write().map(drop).with_context(|| format!("the report cannot be written to {}", file.display()))
}
