//! Charges a second, how long they take, and what waits: from the counters of gateways and nodes, once a second.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::metrics_page::{samples, sum};

/// Ten minutes, one point a second.
pub const POINTS_MAX: usize = 600;

const CHARGES: &str = "charge_request_latency_seconds_count";
const LATENCIES: &str = "charge_request_latency_seconds_bucket";
const FAILURES: &str = "picopay_gateway_charge_failures_total";
const GATEWAY_QUEUE: &str = "picopay_gateway_queue_length";
const NODE_QUEUE: &str = "picopay_node_queue_length";

/// One second of traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// When it was looked at: Unix time in milliseconds.
    pub at_ms: u64,
    /// Charges that ended, a second; null while no gateway answers.
    pub charges: Option<f64>,
    /// Those that failed through no fault of their clients, a second.
    pub failures: Option<f64>,
    /// The time in which half of the charges of this second were answered, in milliseconds; null without charges.
    pub p50_ms: Option<f64>,
    /// The time in which 99 of 100 were.
    pub p99_ms: Option<f64>,
    /// By shard: commands that wait in gateways and nodes.
    pub queue: BTreeMap<String, f64>,
}

/// What the counters of all gateways said at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counted {
    charges: f64,
    failures: f64,
    /// Charges that took at most so many microseconds. Integers, since they are keys.
    within_us: BTreeMap<u64, f64>,
}

/// Makes points of pages of metrics.
#[derive(Debug, Default)]
pub struct Traffic {
    before: Option<(u64, BTreeMap<String, Counted>)>,
    points: VecDeque<Point>,
}

impl Traffic {
    pub fn points(&self) -> &VecDeque<Point> {
        &self.points
    }

    /// `gateways` are the pages by URL of those that answered; `nodes` are by shard.
    pub fn look(&mut self, at_ms: u64, gateways: &[(&str, &str)], nodes: &[(&str, &str)]) -> &Point {
        let mut queue = BTreeMap::new();
        for sample in gateways.iter().flat_map(|(_, page)| samples(page, GATEWAY_QUEUE)) {
            if let Some(shard) = sample.label("shard") {
                *queue.entry(shard.to_owned()).or_insert(0.0) += sample.value;
            }
        }
        for (shard, page) in nodes {
            *queue.entry((*shard).to_owned()).or_insert(0.0) += sum(page, NODE_QUEUE);
        }
        let now: BTreeMap<String, Counted> =
            gateways.iter().map(|(url, page)| ((*url).to_owned(), Counted::read(page))).collect();
        let mut point = Point { at_ms, charges: None, failures: None, p50_ms: None, p99_ms: None, queue };
        if let Some((before_ms, before)) = &self.before {
            let since = Counted::sum_since(before, &now);
            let seconds = millis(at_ms.saturating_sub(*before_ms)) / 1000.0;
            if let Some(since) = since.filter(|_| seconds > 0.0) {
                point.charges = Some(since.charges / seconds);
                point.failures = Some(since.failures / seconds);
                point.p50_ms = since.quantile_ms(0.5);
                point.p99_ms = since.quantile_ms(0.99);
            }
        }
        self.before = Some((at_ms, now));
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
        self.points.back().expect("was just added")
    }
}

impl Counted {
    fn read(page: &str) -> Self {
        let buckets = samples(page, LATENCIES).filter_map(|sample| {
            let seconds: f64 = sample.label("le")?.parse().ok()?;
            Some((micros(seconds), sample.value))
        });
        Self {
            charges: sum(page, CHARGES),
            failures: sum(page, FAILURES),
            within_us: buckets.fold(BTreeMap::new(), |mut sums, (within, count)| {
                *sums.entry(within).or_insert(0.0) += count;
                sums
            }),
        }
    }

    /// `None` when no gateway is in both. One that was started anew counts from its next second on.
    fn sum_since(before: &BTreeMap<String, Self>, now: &BTreeMap<String, Self>) -> Option<Self> {
        let both = now.iter().filter_map(|(url, now)| Some((before.get(url)?, now)));
        let same_run = both.filter(|(before, now)| now.charges >= before.charges);
        same_run
            .map(|(before, now)| Self {
                charges: now.charges - before.charges,
                failures: (now.failures - before.failures).max(0.0),
                within_us: (now.within_us.iter())
                    .map(|(within, count)| {
                        (*within, count - before.within_us.get(within).copied().unwrap_or(0.0))
                    })
                    .collect(),
            })
            .reduce(|mut sum, one| {
                sum.charges += one.charges;
                sum.failures += one.failures;
                for (within, count) in one.within_us {
                    *sum.within_us.entry(within).or_insert(0.0) += count;
                }
                sum
            })
    }

    /// Even within a bucket, as Prometheus has it. What is above the last bound counts as that.
    fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let (last, _) = self.within_us.range(..u64::MAX).next_back()?;
        if self.charges <= 0.0 {
            return None;
        }
        let rank = quantile * self.charges;
        let (mut below_us, mut below) = (0.0, 0.0);
        for (&within, &count) in self.within_us.range(..u64::MAX) {
            if count >= rank && count > below {
                let part = (rank - below) / (count - below);
                return Some((below_us + (millis(within) - below_us) * part) / 1000.0);
            }
            (below_us, below) = (millis(within), count);
        }
        Some(millis(*last) / 1000.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of this century and less")]
fn millis(time: u64) -> f64 {
    time as f64
}

/// Infinity, the last bucket's bound, becomes the largest number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float stops at the ends"
)]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(within: [u32; 3], failures: u32, waiting: u32) -> String {
        let [fast, slow, all] = within;
        format!(
            "{LATENCIES}{{le=\"0.001\"}} {fast}\n{LATENCIES}{{le=\"0.01\"}} {slow}\n{LATENCIES}{{le=\"+Inf\"}} {all}\n\
             {CHARGES} {all}\n{FAILURES}{{code=\"internal\"}} {failures}\n{GATEWAY_QUEUE}{{shard=\"a\"}} {waiting}\n"
        )
    }

    #[test]
    fn a_second_has_its_own_charges_times_and_queues() {
        let mut traffic = Traffic::default();
        let node = "picopay_node_queue_length{lane=\"0\",shard=\"a\"} 2\npicopay_node_queue_length{lane=\"1\",shard=\"a\"} 1\n";
        let first =
            traffic.look(1_000, &[("g", &page([1_000, 1_000, 1_000], 0, 0))], &[("a", node), ("b", "")]);
        assert_eq!((first.charges, first.p50_ms), (None, None));
        assert_eq!(first.queue, BTreeMap::from([("a".to_owned(), 3.0), ("b".to_owned(), 0.0)]));
        let second = traffic.look(3_000, &[("g", &page([1_080, 1_100, 1_100], 4, 7))], &[("a", node)]);
        assert_eq!((second.charges, second.failures), (Some(50.0), Some(2.0)));
        // 50 of 80 in the first millisecond; then 19 of 20 in the nine that follow.
        assert_eq!((second.p50_ms, second.p99_ms), (Some(0.625), Some(9.55)));
        assert_eq!(second.queue.get("a"), Some(&10.0));
    }

    #[test]
    fn without_charges_there_is_no_latency_and_without_a_gateway_no_rate() {
        let mut traffic = Traffic::default();
        let same = page([5, 5, 5], 0, 0);
        traffic.look(0, &[("g", &same)], &[]);
        let idle = traffic.look(1_000, &[("g", &same)], &[]).clone();
        assert_eq!((idle.charges, idle.p99_ms), (Some(0.0), None));
        assert_eq!(traffic.look(2_000, &[], &[]).charges, None);
        traffic.look(3_000, &[("g", &same)], &[]);
        let restarted = traffic.look(4_000, &[("g", &page([1, 1, 1], 0, 0))], &[]);
        assert_eq!(restarted.charges, None, "its counters began anew");
    }

    #[test]
    fn what_takes_longer_than_all_bounds_counts_as_the_last() {
        let mut traffic = Traffic::default();
        traffic.look(0, &[("g", &page([0, 0, 0], 0, 0))], &[]);
        let slow = traffic.look(1_000, &[("g", &page([0, 0, 10], 0, 0))], &[]);
        assert_eq!((slow.p50_ms, slow.p99_ms), (Some(10.0), Some(10.0)));
    }

    #[test]
    fn ten_minutes_are_kept() {
        let mut traffic = Traffic::default();
        for second in 0..700 {
            traffic.look(second * 1_000, &[], &[]);
        }
        assert_eq!((traffic.points().len(), traffic.points()[0].at_ms), (POINTS_MAX, 100_000));
    }
}
