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

/// That it is content with these files.
#[track_caller]
pub fn judge(program: &Path, arguments: &[&str], files: &[PathBuf]) {
    let (is_content, said) = run(program, arguments, files);
    assert!(is_content, "{} {arguments:?}: {said}", program.display());
}

/// What it prints about a file that it is not content with.
#[track_caller]
pub fn complaint(program: &Path, arguments: &[&str], file: &Path) -> String {
    let (is_content, said) = run(program, arguments, &[file.to_owned()]);
    assert!(!is_content, "{} {arguments:?} {}: {said}", program.display(), file.display());
    said
}

fn run(program: &Path, arguments: &[&str], files: &[PathBuf]) -> (bool, String) {
    let output = Command::new(program).args(arguments).args(files).output().expect("the program starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}
