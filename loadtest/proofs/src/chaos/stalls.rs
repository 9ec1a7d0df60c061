//! Moments in which the machine itself stood still.
//!
//! When this process is not scheduled or the disk takes no write, the contract allows errors. So a small write is
//! synced all the time, and each late one is noted.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::clock::Clock;
use super::errors::{Cause, Errors};

const EVERY: Duration = Duration::from_millis(100);

/// A batch may take 1.5 s, and has several such waits.
const LATE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Watch {
    watching: JoinHandle<()>,
}

impl Watch {
    pub fn start(errors: Arc<Errors>, clock: Clock) -> anyhow::Result<Self> {
        let mut file = Some(tempfile::tempfile()?);
        let watching = tokio::spawn(async move {
            let mut last = clock.now();
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(one) = file.take() else { return };
                file = tokio::task::spawn_blocking(move || write(one)).await.ok();
                let now = clock.now();
                if now.saturating_sub(last) > EVERY + LATE {
                    let window = errors.open_window(Cause::Stall, last);
                    errors.close_window(window, now);
                }
                last = now;
            }
        });
        Ok(Self { watching })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn write(mut file: File) -> File {
    // When the disk is full, the cluster says so louder.
    let _ = file.rewind().and_then(|()| file.write_all(&[0; 512])).and_then(|()| file.sync_data());
    file
}
