//! Ctrl-C while slots move: the first ends the work after the current batch, the second at once.
//!
//! Both are safe, since the next mover settles what a killed one left. But until then slots may have no owner, so the first
//! one waits.

use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::progress::Board;

/// What a shell says of a program that SIGINT ended: 128 and the signal's number.
const EXIT_CODE: u8 = 130;

/// The exit code of a command that was stopped, by SIGINT or SIGTERM: neither done nor failed.
pub fn exit_code() -> ExitCode {
    ExitCode::from(EXIT_CODE)
}

#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    pub fn listen(board: Arc<Board>) -> std::io::Result<Self> {
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (asked, stop) = watch::channel(false);
        tokio::spawn(obey(asked, signals, board));
        Ok(Self(stop))
    }

    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits, unless somebody asks for the end first.
    pub async fn sleep(&self, time: Duration) {
        // The sender lives as long as the program, so there is nothing else that this could end with.
        let _ = timeout(time, self.0.clone().wait_for(|is_asked| *is_asked)).await;
    }
}

async fn obey(
    asked: watch::Sender<bool>,
    (mut interrupt, mut terminate): (Signal, Signal),
    board: Arc<Board>,
) {
    let mut next = async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
    next().await;
    asked.send_replace(true);
    board.say(
        "Stopping after the batch that is under way. Once more stops at once, which is safe too; run the command again \
         to go on.",
    );
    next().await;
    exit(i32::from(EXIT_CODE));
}
