//! Prometheus, Alertmanager and the programs that judge their files.

use std::path::{Path, PathBuf};
use std::process::Command;

use picopay_local::programs::find_in_path;

/// `None` where they are not installed, which is said. CI installs them: there a missing one fails the test.
pub fn tools<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(|name| {
        let found = find_in_path(name, "Install it: deploy/observability/install.sh.");
        // Only Debian calls it so.
        found.or_else(|missing| find_in_path(name.trim_start_matches("prometheus-"), "").map_err(|_| missing))
    });
    if let Some(missing) = found.iter().find_map(|one| one.as_ref().err()) {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    Some(found.map(|one| one.expect("all were found")))
}

/// What it prints, if it is content.
#[track_caller]
pub fn judge(program: &Path, arguments: &[&str], files: &[PathBuf]) -> String {
    let output = Command::new(program).args(arguments).args(files).output().expect("the program starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}: {said}", program.display());
    said
}
