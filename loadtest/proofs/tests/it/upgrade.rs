//! Mistakes in a deploy that a run notices, and which earlier commit it takes. CI runs `make upgrade` itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

use picopay_local::programs;

use crate::run_of::Run;

/// Against itself: what is broken is broken with any release.
fn run(folder: &Path, broken: &str) -> Run {
    let programs = programs::find_picopay("picopay").unwrap();
    let from = programs.parent().unwrap().to_str().unwrap();
    Run::of(&["upgrade", "--from", from, "--seed", "7", "--minutes", "0.5", "--broken", broken], folder)
}

#[test]
fn a_run_fails_when_nobody_is_left_to_ask() {
    fails_when("gateways-at-once", "failed");
}

#[test]
fn a_run_fails_when_a_key_is_booked_twice() {
    fails_when("skip-key-check", "doubled");
}

fn fails_when(broken: &str, count: &str) {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path(), broken);
    assert_eq!((&run.summary["holds"], run.exit_code), (&false.into(), Some(1)), "{}", run.told);
    assert!(run.count(count) > 0, "{}", run.summary);
    assert!(run.told.contains(&format!("BROKEN {count}: ")), "{}", run.told);
}

/// In seconds since 1970, of all commits here.
static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);

/// A repository with the script in it.
struct Checkout(tempfile::TempDir);

impl Checkout {
    fn new() -> Self {
        let checkout = Self(tempfile::tempdir().unwrap());
        checkout.git(&["init", "--quiet", "--initial-branch=main"]);
        checkout.put_script();
        checkout
    }

    fn put_script(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/earlier.sh");
        let folder = self.0.path().join("deploy");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(script, folder.join("earlier.sh")).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]);
        // A second later each time: tags are taken by age.
        let now = CLOCK.fetch_add(1, Ordering::Relaxed);
        git.env("GIT_COMMITTER_DATE", format!("@{now} +0000"));
        let output = git.args(arguments).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes a commit, and returns it.
    fn commit(&self, message: &str) -> String {
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn script(&self) -> PathBuf {
        self.0.path().join("deploy/earlier.sh")
    }

    fn which(&self, from: &[&str]) -> Output {
        let mut bash = Command::new("bash");
        // Whatever surrounds the temporary folder is no part of it.
        bash.env("GIT_CEILING_DIRECTORIES", self.0.path().parent().unwrap());
        bash.arg(self.script()).arg("--which").args(from).output().unwrap()
    }

    fn chosen(&self, from: &[&str]) -> String {
        let output = self.which(from);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn refusal(&self, from: &[&str]) -> String {
        let output = self.which(from);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn the_earlier_commit_is_the_newest_tag_else_before_the_newest_merge_else_before_this_one() {
    let checkout = Checkout::new();
    let first = checkout.commit("first");
    let second = checkout.commit("second");
    assert_eq!(checkout.chosen(&[]), first);
    assert_eq!(checkout.chosen(&["main"]), second, "who names one gets it");

    checkout.git(&["checkout", "--quiet", "-b", "side", &first]);
    checkout.commit("beside");
    checkout.git(&["checkout", "--quiet", "main"]);
    checkout.git(&["merge", "--quiet", "--no-ff", "--message", "a merge", "side"]);
    checkout.commit("third");
    assert_eq!(checkout.chosen(&[]), second);

    checkout.git(&["tag", "v1", &first]);
    assert_eq!(checkout.chosen(&[]), first);
    checkout.git(&["tag", "v0.9", &second]);
    checkout.git(&["tag", "v2-of-the-first", &first]);
    assert_eq!(checkout.chosen(&[]), second, "the newest is the one of the newest commit");
    checkout.git(&["tag", "--delete", "v0.9", "v2-of-the-first"]);
    checkout.git(&["tag", "v2"]);
    assert_eq!(checkout.chosen(&[]), first, "a tag of this very commit is no earlier one");
}

#[test]
fn without_an_earlier_commit_it_is_said_how_to_get_one() {
    let checkout = Checkout::new();
    checkout.commit("first");
    let refusal = checkout.refusal(&["v9"]);
    assert!(refusal.contains("v9 is no commit here") && refusal.contains("git fetch --tags"), "{refusal}");
    checkout.commit("second");

    let shallow = Checkout(tempfile::tempdir().unwrap());
    let origin = format!("file://{}", checkout.0.path().display());
    shallow.git(&["clone", "--quiet", "--depth", "1", &origin, "."]);
    shallow.put_script();
    let refusal = shallow.refusal(&[]);
    assert!(refusal.contains("is shallow: git fetch --unshallow --tags"), "{refusal}");

    let bare = Checkout(tempfile::tempdir().unwrap());
    bare.put_script();
    assert!(bare.refusal(&[]).contains("this is no git checkout"));
}
