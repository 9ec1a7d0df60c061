//! The alerts, and their cases for promtool, as the files list them.
//!
//! promtool judges the files. This reads only names, line by line, so it relies on how the files are laid out.

use std::path::{Path, PathBuf};

use crate::{files_in, folder, text_of};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alert {
    /// The file of its group, without folder and end.
    pub file: String,
    pub name: String,
    pub severity: String,
    /// The file in `docs/runbooks`.
    pub runbook: String,
    /// Whether the trouble has to last before anybody is called.
    pub has_for: bool,
}

/// What promtool tries: whether the alert fires when it has to, or stays silent when it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub file: String,
    pub alert: String,
    pub fires: bool,
}

pub fn rule_files() -> Vec<PathBuf> {
    files_in(&folder().join("rules"), "yml")
}

pub fn case_files() -> Vec<PathBuf> {
    files_in(&folder().join("rules/tests"), "yml")
}

pub fn alerts() -> Vec<Alert> {
    let mut found: Vec<Alert> = Vec::new();
    for path in rule_files() {
        let file = stem(&path);
        for line in text_of(&path).lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("- alert: ") {
                found.push(Alert { file: file.clone(), name: name.to_owned(), ..Alert::default() });
            }
            let Some(last) = found.last_mut() else { continue };
            last.has_for |= line.starts_with("for: ");
            if let Some(severity) = line.strip_prefix("severity: ") {
                severity.clone_into(&mut last.severity);
            }
            if let Some(url) = line.strip_prefix("runbook_url: '{{ $externalLabels.runbooks }}/") {
                url.trim_end_matches('\'').clone_into(&mut last.runbook);
            }
        }
    }
    found
}

pub fn cases() -> Vec<Case> {
    let mut found: Vec<Case> = Vec::new();
    for path in case_files() {
        for line in text_of(&path).lines().map(str::trim) {
            if let Some(alert) = line.strip_prefix("alertname: ") {
                found.push(Case { file: stem(&path), alert: alert.to_owned(), fires: false });
            }
            let Some(last) = found.last_mut() else { continue };
            last.fires |= line == "- exp_labels:";
        }
    }
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
