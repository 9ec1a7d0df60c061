//! The bars: what PicoPay means to reach on two cores.

use super::bar::{Bar, Bound};
use super::summary::Summary;

pub fn bars(summary: &Summary) -> Vec<Bar> {
    use Bound::{AtLeast, AtMost};
    let full = summary.full.as_ref();
    let memory = full.map_or(summary.memory_mib, |full| full.memory_mib_512);
    let counts = (summary.errors + summary.lost + summary.doubled) as f64;
    vec![
        Bar::new("ratio: charges/s over HTTP ÷ pgbench's best", AtLeast(2.5), "", Some(summary.ratio)),
        Bar::new(
            "CPU for a charge, all servers",
            AtMost(100.0),
            " µs",
            Some(summary.cpu_us_per_charge.total),
        ),
        Bar::new("p99 at half of saturation", AtMost(25.0), " ms", Some(summary.latency.p99_ms)),
        Bar::new("a hot user, of uniform", AtLeast(0.9), "", Some(summary.hot_user)),
        Bar::new("a retry storm, of uniform", AtLeast(1.0), "", Some(summary.retry_storm)),
        Bar::new("CPU for a charge, 4 shards ÷ 1", AtMost(1.2), "", full.map(|full| full.four_shards_cost)),
        Bar::new("5 million transactions, of none", AtLeast(0.85), "", full.map(|full| full.existing_share)),
        Bar::new("peak memory of the gateway", AtMost(100.0), " MiB", Some(memory.gateway)),
        Bar::new("peak memory of a node", AtMost(100.0), " MiB", Some(memory.node)),
        Bar::new("errors, lost, doubled", AtMost(0.0), "", Some(counts)),
    ]
}
