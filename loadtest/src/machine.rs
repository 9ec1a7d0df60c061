//! Where a figure was measured: without it, a figure says nothing.

use std::fs;

use serde::Serialize;

/// The machine that the load test ran on; for a cluster on the same machine, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// In MiB; absent where the system does not say.
    pub memory_mib: Option<u64>,
    /// Operating system and kernel.
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn read() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let name = field(&release, "PRETTY_NAME", '=').unwrap_or_else(|| std::env::consts::OS.to_owned());
        let processor =
            fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| field(&text, "model name", ':'));
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemTotal", ':'));
        let memory_kib = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_kib.map(|kib| kib / 1_024),
            system: format!("{name} {}", kernel.trim()).trim().to_owned(),
        }
    }
}

fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then_some(value)
    })?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 7\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: other\n";
        assert_eq!(field(text, "model name", ':').as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(field("A=\"b c\"\n", "A", '=').as_deref(), Some("b c"));
        assert_eq!(field(text, "name", ':'), None);
    }

    #[test]
    fn this_machine_has_a_processor() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && !machine.processor.is_empty(), "{machine:?}");
    }
}
