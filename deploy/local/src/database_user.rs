//! The user that PostgreSQL runs as: as root it refuses to run.

use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use crate::LocalError;

/// The first is made by PostgreSQL's packages. The second is on every system, and owns nothing that a database could
/// damage.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUser {
    pub name: String,
    uid: u32,
    gid: u32,
}

pub fn find() -> Result<Option<DatabaseUser>, LocalError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let known = CANDIDATES.iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = known.ok_or_else(|| {
        let names = CANDIDATES.join(" nor ");
        LocalError::Unfit(format!("PostgreSQL does not run as root, and there is neither a user {names}"))
    })?;
    Ok(Some(DatabaseUser { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

impl DatabaseUser {
    pub(crate) fn apply_to(&self, command: &mut Command) {
        // The standard library drops root's other groups along with the user id.
        command.uid(self.uid).gid(self.gid);
    }

    pub(crate) fn give(&self, path: &Path) -> Result<(), LocalError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(LocalError::system(format!(
            "give {} to user {}",
            path.display(),
            self.name
        )))
    }

    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    pub(crate) fn is(&self, uid: u32) -> bool {
        self.uid == uid
    }

    /// Whether this user can reach a folder: every folder on the way lets it pass.
    pub fn can_reach(&self, folder: &Path) -> bool {
        self.succeeds("cd \"$1\"", folder.as_os_str())
    }

    /// Some containers do not allow it.
    pub fn can_run(&self) -> bool {
        self.succeeds("true", OsStr::new(""))
    }

    /// A shell is asked: mode bits alone would miss access lists and mount options.
    fn succeeds(&self, script: &str, argument: &OsStr) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(argument).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.apply_to(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}
