//! Logs of the services: to standard error, as lines for people on a terminal and as JSON elsewhere.
//!
//! No request waits for whoever reads the log. Lines go through a bounded queue to a thread of its own; while the reader
//! stands still the queue fills, and lines beyond it are dropped and counted.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The environment variable that sets what is logged, in the syntax of `tracing`'s `EnvFilter`: `debug`,
/// `picopay_gateway=debug,picopay_shard_client=debug,info`.
pub const LOG_ENV: &str = "PICOPAY_LOG";

/// Lines that may wait for their reader: about 4 MB, and a second of access lines at 8,000 requests a second.
const LINES_WAITING_MAX: usize = 8_192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The log of this process. When it is dropped, what waits is written, for at most about a second.
#[must_use = "without it the last lines are lost"]
#[derive(Debug)]
pub struct Log(#[expect(dead_code, reason = "to drop it is its use")] WorkerGuard);

/// Starts logging for this process. Call once, first in `main`, and keep what it returns to the end.
pub fn start() -> Log {
    start_by(SystemTime)
}

/// The same with the process's own clock, which returns RFC 3339.
pub fn start_with(clock: fn() -> String) -> Log {
    start_by(Clock(clock))
}

/// Lines that were dropped so far because nobody read those before them.
pub fn lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| u64::try_from(counter.dropped_lines()).unwrap_or(u64::MAX))
}

struct Clock(fn() -> String);

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&(self.0)())
    }
}

fn start_by(timer: impl FormatTime + Send + Sync + 'static) -> Log {
    let filter = EnvFilter::try_from_env(LOG_ENV)
        .unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn,tokio_postgres=warn"));
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let _ = DROPPED.set(writer.error_counter());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_timer(timer);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    // The standard hook writes to standard error itself, and would wait for its reader.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(panic = %panic, "a bug: the code panicked");
    }));
    Log(guard)
}
