//! Ends a cluster with its owner, even when the owner is ended by `kill -9`.
//!
//! The guardian is a shell script (`guardian.sh`) that reads from a pipe what to watch. The kernel closes the pipe when
//! the owner is gone. It has a process group of its own: Ctrl-C reaches the owner only.
//!
//! `PR_SET_PDEATHSIG` is only on Linux, needs `unsafe` and ends PostgreSQL in no order; a `Drop` does nothing for a killed
//! process.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::LocalError;
use crate::folder::write;

const SCRIPT: &str = include_str!("guardian.sh");

/// The guardian gives PostgreSQL 4 s; the rest is for removing folders on a slow disk.
const FINISH_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Postgres,
    Plain,
}

#[derive(Debug)]
pub(crate) struct Guardian(Mutex<Option<Child>>);

impl Guardian {
    /// It holds `lock` open, so that nobody takes the folder over before all is ended.
    pub(crate) fn start(folder: &Path, lock: Option<File>) -> Result<Self, LocalError> {
        // As a file, and not on the command line: so a list of processes shows whose guardian it is, in one line.
        let script = folder.join("guardian.sh");
        write(&script, SCRIPT)?;
        let mut command = Command::new("/bin/sh");
        command.arg(&script).current_dir("/").process_group(0);
        // Never written to: holding the file open is what holds its lock.
        command
            .stdin(Stdio::piped())
            .stdout(lock.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::null());
        let child = command.spawn().map_err(LocalError::system("start /bin/sh as guardian"))?;
        Ok(Self(Mutex::new(Some(child))))
    }

    pub(crate) fn watch(&self, pid: u32, ending: Ending) -> Result<(), LocalError> {
        let kind = match ending {
            Ending::Postgres => "postgres",
            Ending::Plain => "plain",
        };
        self.tell(&format!("watch {kind} {pid}\n"))
    }

    /// This process has ended; its number may be somebody else's soon.
    pub(crate) fn forget(&self, pid: u32) -> Result<(), LocalError> {
        self.tell(&format!("forget {pid}\n"))
    }

    pub(crate) fn remove_at_end(&self, folder: &Path) -> Result<(), LocalError> {
        self.tell(&format!("remove {}\n", folder.display()))
    }

    pub(crate) fn finish(&self) {
        let child = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return };
        drop(child.stdin.take());
        let started = Instant::now();
        while started.elapsed() < FINISH_WAIT {
            match child.try_wait() {
                // It may need to be waited for a millisecond or a second; polling is all that std offers here.
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        tracing::warn!(pid = child.id(), "the guardian is still busy and is left to itself");
    }

    fn tell(&self, line: &str) -> Result<(), LocalError> {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = child.as_mut().and_then(|child| child.stdin.as_mut());
        // One write: a line reaches the guardian whole or not at all.
        match pipe.map(|pipe| pipe.write_all(line.as_bytes())) {
            Some(written) => written.map_err(LocalError::system("tell the guardian")),
            None => Err(LocalError::Unfit("the cluster has ended".to_owned())),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.finish();
    }
}
