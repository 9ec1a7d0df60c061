//! What the processes of a cluster cost: CPU time and peak memory, as the kernel counts them.
//!
//! Of PostgreSQL the whole tree counts: the postmaster, every backend, and those that have ended meanwhile, whose time the
//! kernel adds to their parent's when it takes note of their end. Linux only: other systems do not tell.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;

use anyhow::{Context, bail};
use nix::unistd::{SysconfVar, sysconf};
use picopay_local::LocalCluster;
use serde::Serialize;

/// Processes come and go while `/proc` is read. Within so many readings there is one without a change, or something else
/// is wrong: backends of a pool live for minutes.
const READINGS_MAX: u32 = 50;

/// Something about each kind of server of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ByRole {
    pub gateway: f64,
    pub node: f64,
    pub primary: f64,
    pub replica: f64,
    pub redis: f64,
}

impl ByRole {
    /// All together.
    pub fn total(&self) -> f64 {
        self.gateway + self.node + self.primary + self.replica + self.redis
    }

    /// Each of them changed in the same way.
    #[must_use]
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            gateway: change(self.gateway),
            node: change(self.node),
            primary: change(self.primary),
            replica: change(self.replica),
            redis: change(self.redis),
        }
    }
}

/// CPU seconds used so far: of the servers, of this program, and of the whole machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuTimes {
    /// Of the servers of one cluster.
    pub servers: ByRole,
    /// Of this program, which makes the load.
    pub generator: f64,
    /// Of everything on the machine.
    pub machine: f64,
    /// That the machine had nothing to do for, over all cores.
    pub idle: f64,
    /// That the machine was not given by its host.
    pub stolen: f64,
}

impl Sub for CpuTimes {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let (after, before_servers) = (self.servers, before.servers);
        Self {
            servers: ByRole {
                gateway: after.gateway - before_servers.gateway,
                node: after.node - before_servers.node,
                primary: after.primary - before_servers.primary,
                replica: after.replica - before_servers.replica,
                redis: after.redis - before_servers.redis,
            },
            generator: self.generator - before.generator,
            machine: self.machine - before.machine,
            idle: self.idle - before.idle,
            stolen: self.stolen - before.stolen,
        }
    }
}

/// The processes of one cluster, to be looked at while it runs.
#[derive(Debug, Clone)]
pub struct Processes {
    gateways: Vec<u32>,
    nodes: Vec<u32>,
    primaries: Vec<u32>,
    replicas: Vec<u32>,
    redis: Vec<u32>,
    /// Kernel ticks in a second.
    ticks: f64,
}

impl Processes {
    /// Of a cluster that runs with a gateway.
    pub fn of(cluster: &LocalCluster) -> anyhow::Result<Self> {
        let (mut gateways, mut nodes, mut primaries) = (Vec::new(), Vec::new(), Vec::new());
        let (mut replicas, mut redis) = (Vec::new(), Vec::new());
        let primaries_now: Vec<String> =
            cluster.shards().iter().map(|shard| shard.primary().name().to_owned()).collect();
        for process in cluster.processes() {
            let name = process.name();
            let pid = process.pid().with_context(|| format!("{name} does not run"))?;
            let place = match name {
                "gateway" => &mut gateways,
                "redis" => &mut redis,
                _ if primaries_now.iter().any(|primary| primary == name) => &mut primaries,
                _ if name.contains("-postgres-") => &mut replicas,
                _ if name.contains("-node-") => &mut nodes,
                _ => bail!("{name}: the bench does not know what this process is"),
            };
            place.push(pid);
        }
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the system does not tell its clock ticks")?;
        Ok(Self { gateways, nodes, primaries, replicas, redis, ticks: ticks as f64 })
    }

    /// CPU times so far.
    ///
    /// # Errors
    /// Where there is no `/proc`, or one of the processes is gone.
    pub fn cpu_times(&self) -> anyhow::Result<CpuTimes> {
        let mut stats = read_stats()?;
        for _ in 0..READINGS_MAX {
            // A process that ends between two lines would count twice, or not at all.
            let again = read_stats()?;
            if self.tree_of_all(&stats) == self.tree_of_all(&again) {
                return self.sum(&again);
            }
            stats = again;
        }
        bail!("the cluster's processes come and go too fast to be counted")
    }

    fn roots(&self) -> impl Iterator<Item = u32> + '_ {
        [&self.gateways, &self.nodes, &self.primaries, &self.replicas, &self.redis]
            .into_iter()
            .flatten()
            .copied()
    }

    fn tree_of_all(&self, stats: &HashMap<u32, Stat>) -> Vec<u32> {
        let mut all: Vec<u32> = self.roots().flat_map(|root| tree(root, stats)).collect();
        all.sort_unstable();
        all
    }

    fn sum(&self, stats: &HashMap<u32, Stat>) -> anyhow::Result<CpuTimes> {
        let seconds = |roots: &[u32]| -> anyhow::Result<f64> {
            let mut ticks = 0;
            for root in roots {
                stats.get(root).context("a process of the cluster has ended")?;
                ticks += tree(*root, stats).iter().map(|pid| stats[pid].all_ticks()).sum::<u64>();
            }
            Ok(ticks as f64 / self.ticks)
        };
        let own = stats.get(&std::process::id()).context("/proc does not show this process")?;
        let machine =
            read_machine(&fs::read_to_string("/proc/stat")?).context("/proc/stat is unlike Linux")?;
        Ok(CpuTimes {
            servers: ByRole {
                gateway: seconds(&self.gateways)?,
                node: seconds(&self.nodes)?,
                primary: seconds(&self.primaries)?,
                replica: seconds(&self.replicas)?,
                redis: seconds(&self.redis)?,
            },
            // Without its children's: the cluster is among them.
            generator: own.own_ticks as f64 / self.ticks,
            machine: machine.busy as f64 / self.ticks,
            idle: machine.idle as f64 / self.ticks,
            stolen: machine.stolen as f64 / self.ticks,
        })
    }

    /// The most memory that a gateway and a node ever had resident, in MiB: the largest of each.
    pub fn peak_memory(&self) -> anyhow::Result<Memory> {
        let largest = |pids: &[u32]| -> anyhow::Result<f64> {
            let mut most = 0.0_f64;
            for pid in pids {
                let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
                let kib = peak_kib(&status).context("/proc does not tell VmHWM")?;
                most = most.max(kib as f64 / 1_024.0);
            }
            Ok((most * 10.0).round() / 10.0)
        };
        Ok(Memory { gateway: largest(&self.gateways)?, node: largest(&self.nodes)? })
    }
}

/// Peak resident memory in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Of the largest gateway.
    pub gateway: f64,
    /// Of the largest node.
    pub node: f64,
}

/// One line of `/proc/PID/stat` (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Of children that have ended and were waited for.
    ended_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name, in brackets, may hold anything; the fields behind the last bracket do not. The first of them is the third.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(4)?).ok()?,
            own_ticks: number(14)? + number(15)?,
            ended_ticks: number(16)? + number(17)?,
        })
    }

    fn all_ticks(&self) -> u64 {
        self.own_ticks + self.ended_ticks
    }
}

fn read_stats() -> anyhow::Result<HashMap<u32, Stat>> {
    let entries = fs::read_dir("/proc").context("the bench counts CPU time in /proc, which Linux has")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids
        .filter_map(|pid| Some((pid, Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect())
}

/// `root` and everything below it.
fn tree(root: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

struct Machine {
    busy: u64,
    idle: u64,
    stolen: u64,
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn read_machine(text: &str) -> Option<Machine> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = ticks[..] else { return None };
    Some(Machine { busy: user + nice + system + irq + softirq, idle: idle + iowait, stolen })
}

fn peak_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let line =
            "42 (a) R 1) (x) S 7 42 42 0 -1 4194304 102 0 0 0 11 22 33 44 20 0 1 0 517911 3133440 418 0";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 7, own_ticks: 33, ended_ticks: 77 }));
    }

    #[test]
    fn a_tree_has_children_and_grandchildren_and_nobody_else() {
        let stat = |parent| Stat { parent, own_ticks: 1, ended_ticks: 0 };
        let stats = HashMap::from([
            (1, stat(0)),
            (2, stat(1)),
            (3, stat(2)),
            (4, stat(1)),
            (5, stat(3)),
            (6, stat(9)),
        ]);
        let mut found = tree(2, &stats);
        found.sort_unstable();
        assert_eq!(found, [2, 3, 5]);
    }

    #[test]
    fn the_machine_is_busy_idle_or_robbed() {
        let machine = read_machine("cpu  1 2 4 8 16 32 64 128 0 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!((machine.busy, machine.idle, machine.stolen), (103, 24, 128));
        assert_eq!(peak_kib("VmPeak:\t 9 kB\nVmHWM:\t   2048 kB\n"), Some(2_048));
    }
}
