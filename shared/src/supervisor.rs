//! What the process tells the supervisor that started it: systemd's `Type=notify` and its watchdog (`sd_notify(3)`).
//!
//! Without such a supervisor nothing is told.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tracing::debug;

use crate::ending::{Ending, Stage};

/// Tells that the process serves from now on. Then, for its whole life, that it lives, and when it ends.
pub async fn keep_informed(ending: Ending) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    tell(&socket, "READY=1");
    let alive = async {
        let Some(every) = watchdog_interval() else { return std::future::pending().await };
        // It runs on the threads that serve: if they hang, it falls silent, and the supervisor starts another process.
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            tell(&socket, "WATCHDOG=1");
        }
    };
    let end = async {
        ending.reached(Stage::Draining).await;
        tell(&socket, "STOPPING=1");
        std::future::pending::<()>().await;
    };
    // A process that drains lives.
    tokio::join!(alive, end);
}

/// Twice as often as the supervisor wants to hear it.
fn watchdog_interval() -> Option<Duration> {
    let is_ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (is_ours && us > 1).then(|| Duration::from_micros(us / 2))
}

fn tell(socket: &OsString, state: &str) {
    if let Err(error) = send(socket, state) {
        debug!(%error, state, "the supervisor could not be told");
    }
}

/// A name that begins with `@` is one of Linux's abstract sockets.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return sender.send_to_addr(state.as_bytes(), &address).map(drop);
    }
    sender.send_to(state.as_bytes(), socket).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_hears_what_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let mut text = [0; 32];
        let length = supervisor.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
        assert!(send(folder.path().join("nobody").as_os_str(), "READY=1").is_err());
    }
}
