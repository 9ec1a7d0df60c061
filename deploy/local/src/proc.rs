//! What Linux reports in `/proc`, of processes and of the machine. On other systems every answer is `None`.

use std::collections::HashMap;

pub use procfs_core::process::Stat;
use procfs_core::process::Status;
use procfs_core::{CpuInfo, CpuTime, ExplicitSystemInfo, FromRead, FromReadSI, KernelStats, Meminfo};

pub fn stat(pid: u32) -> Option<Stat> {
    Stat::from_file(format!("/proc/{pid}/stat")).ok()
}

/// Without those that end meanwhile.
pub fn stats() -> Option<HashMap<u32, Stat>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Some(pids.filter_map(|pid| Some((pid, stat(pid)?))).collect())
}

pub fn peak_memory_kib(pid: u32) -> Option<u64> {
    Status::from_file(format!("/proc/{pid}/status")).ok()?.vmhwm
}

/// What all cores of the machine did since it started, in kernel ticks.
pub fn machine_ticks() -> Option<CpuTime> {
    // Ticks are read as they are; how many make a second matters to those who convert them.
    let any = ExplicitSystemInfo {
        boot_time_secs: 0,
        ticks_per_second: 100,
        page_size: 4_096,
        is_little_endian: true,
    };
    Some(KernelStats::from_file("/proc/stat", &any).ok()?.total)
}

pub fn processor() -> Option<String> {
    CpuInfo::from_file("/proc/cpuinfo").ok()?.model_name(0).map(str::to_owned)
}

pub fn memory_mib() -> Option<u64> {
    Some(Meminfo::from_file("/proc/meminfo").ok()?.mem_total / (1_024 * 1_024))
}
