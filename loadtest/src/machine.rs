//! Where a figure was measured: without it, a figure says nothing.

use std::fs;

use picopay_local::proc;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    /// In MiB; absent where the system does not say.
    pub memory_mib: Option<u64>,
    pub system: String,
}

impl Machine {
    pub fn read() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let name = name.map_or(std::env::consts::OS, |name| name.trim_matches('"'));
        Self {
            processor: proc::processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: proc::memory_mib(),
            system: format!("{name} {}", kernel.trim()).trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_processor() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && !machine.processor.is_empty(), "{machine:?}");
    }
}
