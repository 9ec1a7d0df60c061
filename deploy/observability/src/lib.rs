//! The alerts, runbooks and dashboards of PicoPay: the files that Prometheus, Alertmanager and Grafana read.
//!
//! The Rust here only reads those files. The tests beside it compare them with each other and run them against a cluster.

pub mod rules;

pub mod dashboards;

pub mod metric_names;

use std::path::{Path, PathBuf};

/// The folder of these files in the repository.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The folder of the runbooks, one page for each trouble.
pub fn runbooks() -> PathBuf {
    folder().join("../../docs/runbooks")
}

/// The files of a folder that end so, in order.
///
/// # Panics
/// When the folder cannot be read.
pub fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == extension));
    files.sort();
    files
}

/// # Panics
/// When the file cannot be read.
pub fn text_of(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
