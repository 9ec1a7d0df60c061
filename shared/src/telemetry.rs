//! Logs of the services: to standard error, as lines for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The environment variable that sets what is logged, in the syntax of `tracing`'s `EnvFilter`: `debug`,
/// `picopay_gateway=debug,info`.
pub const LOG_ENV: &str = "PICOPAY_LOG";

/// Starts logging for this process. Call once, first thing in `main`.
pub fn start() {
    let filter = EnvFilter::try_from_env(LOG_ENV)
        .unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn,tokio_postgres=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
