//! Processes as the operating system sees them, by their number: whether one lives, whose child it is, and its end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{LocalError, proc};

/// Short beside a start's milliseconds, and next to no load.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// A killed process is gone at once, unless the kernel is still writing for it.
pub(crate) const KILL_WAIT: Duration = Duration::from_secs(10);

pub(crate) fn send(pid: u32, signal: Signal) {
    // It fails when the process has ended, and then there is nobody to tell.
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// A process that only waits for its parent to read its exit status is not alive.
pub(crate) fn is_alive(pid: u32) -> bool {
    match proc::stat(pid) {
        Some(stat) => stat.state != 'Z',
        None => {
            !Path::new("/proc/self/stat").exists() && kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
        }
    }
}

pub(crate) async fn kill_alone(pid: u32) -> Result<(), LocalError> {
    send(pid, Signal::SIGKILL);
    if wait_for(KILL_WAIT, || !is_alive(pid)).await {
        Ok(())
    } else {
        Err(LocalError::Unfit(format!("process {pid} does not end even when killed")))
    }
}

pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let Some(stats) = proc::stats() else { return children_by_ps(parent) };
    stats.into_iter().filter(|(_, stat)| stat.ppid.cast_unsigned() == parent).map(|(pid, _)| pid).collect()
}

fn children_by_ps(parent: u32) -> Vec<u32> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    });
    pairs.filter(|&(_, its_parent)| its_parent == parent).map(|(pid, _)| pid).collect()
}

pub(crate) fn command_line(pid: u32) -> Option<String> {
    if let Ok(bytes) = std::fs::read(format!("/proc/{pid}/cmdline")) {
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    let output = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) async fn wait_for(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}
