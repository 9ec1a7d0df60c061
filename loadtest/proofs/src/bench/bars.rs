//! The bars: what PicoPay means to reach on two cores.

use super::bar::{Bar, Bound};
use super::cost::Cost;
use super::mix::BATCH;
use super::summary::Summary;

/// CPU for a charge divided by pgbench's, at the first rates of the pace. Below that a batch has one charge or two.
const QUOTIENTS: [f64; 3] = [1.6, 1.2, 0.95];

/// Of the rates of the pace, those whose latency is promised: where batches have several charges.
const PROMPT: [usize; 2] = [2, 3];

pub fn bars(summary: &Summary) -> Vec<Bar> {
    use Bound::{AtLeast, AtMost};
    let full = summary.full.as_ref();
    let memory = full.map_or(summary.memory_mib, |full| full.memory_mib_512);
    let counts = (summary.errors + summary.lost + summary.doubled) as f64;
    let mut bars =
        vec![Bar::new("ratio: charges/s over HTTP ÷ pgbench's best", AtLeast(3.0), "", Some(summary.ratio))];
    for (cost, quotient) in summary.costs.iter().zip(QUOTIENTS) {
        let figure = format!("CPU for a charge ÷ pgbench's, at {}", cost.name);
        bars.push(Bar::new(figure, AtMost(quotient), "", cost.quotient));
    }
    for cost in PROMPT.iter().filter_map(|number| summary.costs.get(*number)) {
        bars.extend(latency(cost, 4.0, 10.0));
    }
    // The last two lines of the table are half of saturation and saturation.
    if let [.., half, _] = summary.costs.as_slice() {
        bars.extend(latency(half, 6.0, 15.0));
    }
    for (figure, bound, cpu) in [
        ("CPU for a charge at saturation, all servers", 75.0, summary.cpu_us_per_charge),
        ("CPU for a page of 20", 100.0, summary.cpu_us_per_page),
        ("CPU for a balance", 60.0, summary.cpu_us_per_balance),
    ] {
        bars.push(Bar::new(figure, AtMost(bound), " µs", Some(cpu.total)));
    }
    bars.extend([
        Bar::new("a hot user, of uniform", AtLeast(0.9), "", Some(summary.hot_user)),
        Bar::new("a retry storm, of uniform", AtLeast(1.0), "", Some(summary.retry_storm)),
        Bar::new("four of five read history, of uniform", AtLeast(0.7), "", Some(summary.reads)),
        Bar::new(
            format!("charges/s, {BATCH} in a request, of uniform"),
            AtLeast(2.5),
            "",
            Some(summary.batches),
        ),
        Bar::new("CPU for a charge, 4 shards ÷ 1", AtMost(1.2), "", full.map(|full| full.four_shards_cost)),
        Bar::new("5 million transactions, of none", AtLeast(0.85), "", full.map(|full| full.existing_share)),
        Bar::new("peak memory of the gateway", AtMost(100.0), " MiB", Some(memory.gateway)),
        Bar::new("peak memory of a node", AtMost(100.0), " MiB", Some(memory.node)),
        Bar::new("errors, lost, doubled", AtMost(0.0), "", Some(counts)),
    ]);
    bars
}

fn latency(cost: &Cost, p50_ms: f64, p99_ms: f64) -> [Bar; 2] {
    let bar = |name, bound, value| {
        Bar::new(format!("{name} at {}", cost.name), Bound::AtMost(bound), " ms", Some(value))
    };
    [bar("p50", p50_ms, cost.p50_ms), bar("p99", p99_ms, cost.p99_ms)]
}
