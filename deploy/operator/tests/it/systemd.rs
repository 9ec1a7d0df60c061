//! The units that are handed out are ones that systemd takes, and that keep a service from the rest of the machine.

use std::path::Path;
use std::process::{Command, Output};

/// systemd's own scale, times ten: below 30 is "OK".
const EXPOSURE_MAX: &str = "20";

/// Each unit, under the name of one of its instances.
const UNITS: [(&str, &str); 2] = [
    ("picopay-gateway.service", "picopay-gateway.service"),
    ("picopay-node@.service", "picopay-node@shard-1.service"),
];

fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().ok()
}

#[test]
fn systemd_takes_the_units_and_finds_little_that_they_could_reach() {
    let (units, copies) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd"), tempfile::tempdir().unwrap());
    for (file, instance) in UNITS {
        let text = std::fs::read_to_string(units.join(file)).unwrap();
        // The programs are not installed here, and systemd looks for them.
        let text = text.replace("/usr/local/bin/picopay-gateway", "/bin/true");
        let copy = copies.path().join(instance);
        std::fs::write(&copy, text.replace("/usr/local/bin/picopay-node", "/bin/true")).unwrap();
        let Some(verified) = analyze(&["verify", "--man=no"], &copy) else {
            eprintln!("SKIPPED: systemd-analyze is not installed here");
            return;
        };
        // It exits with 0 on keys that it does not know, and says so.
        let told = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && told.is_empty(), "{file}: {told}");
        let judged = analyze(&["security", "--offline=true", "--threshold", EXPOSURE_MAX], &copy).unwrap();
        assert!(judged.status.success(), "{file}: {}", String::from_utf8_lossy(&judged.stdout));
    }
}
