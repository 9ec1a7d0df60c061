//! CPU time and peak memory of a cluster's processes, as the kernel counts them.
//!
//! A process that runs is read by its CPU clock: the nanoseconds that its threads ran, those that have ended too. The same
//! time in `/proc` is rounded to ticks of 10 ms, which is a tenth of what some server does in a slow load. Of PostgreSQL the
//! whole tree counts, with backends that have ended: the kernel adds their time to their parent's, in ticks. Linux only.

use std::collections::HashMap;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::time::ClockId;
use nix::unistd::{Pid, SysconfVar, sysconf};
use picopay_local::LocalCluster;
use picopay_local::proc::{self, Stat};
use serde::Serialize;

/// Processes start and end while `/proc` is read. Backends of a pool live for minutes, so one of these readings sees no
/// change.
const READINGS_MAX: u32 = 50;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ByRole {
    pub gateway: f64,
    pub node: f64,
    pub primary: f64,
    pub replica: f64,
    pub redis: f64,
}

impl ByRole {
    pub fn total(&self) -> f64 {
        self.gateway + self.node + self.primary + self.replica + self.redis
    }

    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        self.zip(self, |value, _| change(value))
    }

    fn zip(self, other: Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            gateway: combine(self.gateway, other.gateway),
            node: combine(self.node, other.node),
            primary: combine(self.primary, other.primary),
            replica: combine(self.replica, other.replica),
            redis: combine(self.redis, other.redis),
        }
    }
}

/// CPU seconds so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuTimes {
    pub servers: ByRole,
    pub generator: f64,
    pub machine: f64,
    pub idle: f64,
    pub stolen: f64,
}

impl Sub for CpuTimes {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            servers: self.servers.zip(before.servers, |after, before| after - before),
            generator: self.generator - before.generator,
            machine: self.machine - before.machine,
            idle: self.idle - before.idle,
            stolen: self.stolen - before.stolen,
        }
    }
}

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

    pub fn cpu_times(&self) -> anyhow::Result<CpuTimes> {
        let read = || proc::stats().context("the bench counts CPU time in /proc, which Linux has");
        let mut stats = read()?;
        for _ in 0..READINGS_MAX {
            // A process that ends between two lines would count twice, or not at all.
            let again = read()?;
            let is_same = self.tree_of_all(&parents(&stats)) == self.tree_of_all(&parents(&again));
            if is_same && let Some(times) = self.sum(&again)? {
                return Ok(times);
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

    fn tree_of_all(&self, parents: &HashMap<u32, u32>) -> Vec<u32> {
        let mut all: Vec<u32> = self.roots().flat_map(|root| tree(root, parents)).collect();
        all.sort_unstable();
        all
    }

    /// `None` when a process has ended meanwhile.
    fn sum(&self, stats: &HashMap<u32, Stat>) -> anyhow::Result<Option<CpuTimes>> {
        let parents = parents(stats);
        let seconds = |roots: &[u32]| -> anyhow::Result<Option<f64>> {
            let mut sum = 0.0;
            for root in roots {
                stats.get(root).context("a process of the cluster has ended")?;
                for pid in tree(*root, &parents) {
                    let Some(own) = own_seconds(pid) else { return Ok(None) };
                    sum += own + ticks_of_ended(&stats[&pid]) as f64 / self.ticks;
                }
            }
            Ok(Some(sum))
        };
        let [gateway, node, primary, replica, redis] =
            [&self.gateways, &self.nodes, &self.primaries, &self.replicas, &self.redis]
                .map(|roots| seconds(roots));
        let (Some(gateway), Some(node), Some(primary), Some(replica), Some(redis)) =
            (gateway?, node?, primary?, replica?, redis?)
        else {
            return Ok(None);
        };
        let machine = proc::machine_ticks().context("/proc/stat is unlike Linux")?;
        let busy = machine.user
            + machine.nice
            + machine.system
            + ticks_or_zero(machine.irq)
            + ticks_or_zero(machine.softirq);
        Ok(Some(CpuTimes {
            servers: ByRole { gateway, node, primary, replica, redis },
            // Without its children's: the cluster is among them.
            generator: own_seconds(std::process::id()).context("this process has no CPU clock")?,
            machine: busy as f64 / self.ticks,
            idle: (machine.idle + ticks_or_zero(machine.iowait)) as f64 / self.ticks,
            stolen: ticks_or_zero(machine.steal) as f64 / self.ticks,
        }))
    }

    /// In MiB, of the largest gateway and the largest node.
    pub fn peak_memory(&self) -> anyhow::Result<Memory> {
        let largest = |pids: &[u32]| -> anyhow::Result<f64> {
            let mut most = 0.0_f64;
            for pid in pids {
                let kib = proc::peak_memory_kib(*pid).context("/proc does not report VmHWM")?;
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
    pub gateway: f64,
    pub node: f64,
}

/// CPU seconds of all threads that a process has or had; `None` when there is no such process.
pub fn own_seconds(pid: u32) -> Option<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed())).ok()?;
    Some(Duration::from(clock.now().ok()?).as_secs_f64())
}

/// Of children that have ended and were waited for.
fn ticks_of_ended(stat: &Stat) -> u64 {
    stat.cutime.cast_unsigned() + stat.cstime.cast_unsigned()
}

fn parents(stats: &HashMap<u32, Stat>) -> HashMap<u32, u32> {
    stats.iter().map(|(pid, stat)| (*pid, stat.ppid.cast_unsigned())).collect()
}

fn ticks_or_zero(ticks: Option<u64>) -> u64 {
    ticks.unwrap_or(0)
}

fn tree(root: u32, parents: &HashMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, its)| **its == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_the_time_of_threads_that_have_ended_finer_than_a_tick() {
        let own = || own_seconds(std::process::id()).unwrap();
        let before = own();
        // By the thread's own clock, so that others on the machine do not matter.
        let spin = || {
            let begun = ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap();
            while Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap() - begun)
                < Duration::from_millis(3)
            {}
        };
        std::thread::spawn(spin).join().unwrap();
        let spent = own() - before;
        assert!((0.003..0.5).contains(&spent), "{spent}");
        // Above the highest that Linux gives.
        assert_eq!(own_seconds(1 << 23), None);
    }

    #[test]
    fn a_tree_has_children_and_grandchildren_and_nobody_else() {
        let parents = HashMap::from([(1, 0), (2, 1), (3, 2), (4, 1), (5, 3), (6, 9)]);
        let mut found = tree(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [2, 3, 5]);
    }
}
