//! What every service tells of its own process, under names that do not depend on the service.

use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Opts, Registry};

use crate::node_status::WIRE_VERSION;
use crate::telemetry;

/// `picopay_build_info` and `picopay_log_lines_dropped_total`, which all services have.
#[derive(Debug)]
pub struct ProcessMetrics {
    lines_dropped: Mutex<IntCounter>,
}

impl ProcessMetrics {
    /// Registers them. `program` and `version`: of the service, as its `--version` says.
    pub fn register(registry: &Registry, program: &str, version: &str) -> Self {
        let options = Opts::new("picopay_build_info", "1, with what this process was built from.")
            .const_label("program", program)
            .const_label("version", version)
            .const_label("commit", option_env!("PICOPAY_COMMIT").unwrap_or("unknown"))
            .const_label("wire", WIRE_VERSION.to_string());
        let build = IntGauge::with_opts(options).expect("a good name");
        build.set(1);
        let lines_dropped = IntCounter::new(
            "picopay_log_lines_dropped_total",
            "Lines of the log that were dropped because nobody read those before them.",
        )
        .expect("a good name");
        registry.register(Box::new(build)).expect("each name is registered once");
        registry.register(Box::new(lines_dropped.clone())).expect("each name is registered once");
        Self { lines_dropped: Mutex::new(lines_dropped) }
    }

    /// Brings them up to date. Called before they are read.
    pub fn read_off(&self) {
        // Two readers at once must not add the same lines.
        let counter = self.lines_dropped.lock().unwrap_or_else(PoisonError::into_inner);
        counter.inc_by(telemetry::lines_dropped().saturating_sub(counter.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_what_it_was_built_from() {
        let registry = Registry::new();
        ProcessMetrics::register(&registry, "picopay-x", "1.2.3").read_off();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for needle in ["program=\"picopay-x\"", "version=\"1.2.3\"", "picopay_log_lines_dropped_total 0"] {
            assert!(text.contains(needle), "{needle} in {text}");
        }
    }
}
