//! Logs of the services: to standard error, as lines for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The environment variable that sets what is logged, in the syntax of `tracing`'s `EnvFilter`: `debug`,
/// `picopay_gateway=debug,picopay_shard_client=debug,info`.
pub const LOG_ENV: &str = "PICOPAY_LOG";

/// Starts logging for this process. Call once, first in `main`.
pub fn start() {
    start_by(SystemTime);
}

/// The same with the process's own clock, which returns RFC 3339.
pub fn start_with(clock: fn() -> String) {
    start_by(Clock(clock));
}

struct Clock(fn() -> String);

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&(self.0)())
    }
}

fn start_by(timer: impl FormatTime + Send + Sync + 'static) {
    let filter = EnvFilter::try_from_env(LOG_ENV)
        .unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn,tokio_postgres=warn"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(timer);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
