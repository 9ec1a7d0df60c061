//! Latencies that merge without loss: 1 µs to 60 s at three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;

const LONGEST_US: u64 = 60_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// All have the same bounds, so that any two add up exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS);
        Self(histogram.expect("fixed bounds that the library takes"))
    }
}

impl Latencies {
    pub fn record_ns(&mut self, nanos: u64) {
        self.0.saturating_record((nanos / 1_000).clamp(1, LONGEST_US));
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds; 0 when nothing was counted.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1_000.0 }
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.count(),
            mean_ms: self.0.mean().round() / 1_000.0,
            p50_ms: self.quantile_ms(0.5),
            p90_ms: self.quantile_ms(0.9),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
            max_ms: self.quantile_ms(1.0),
        }
    }

    /// From the median outwards: each step halves what is left above.
    pub fn curve(&self) -> Vec<CurvePoint> {
        // Four points to each halving, down to the last single request.
        self.0
            .iter_quantiles(4)
            .map(|step| CurvePoint {
                quantile: step.quantile_iterated_to(),
                latency_ms: step.value_iterated_to() as f64 / 1_000.0,
            })
            .collect()
    }

    /// Bin widths grow by a fixed factor; empty bins at both ends are left out.
    pub fn bins(&self) -> Vec<Bin> {
        // Ten bins a decade: fine enough for two humps to show, few enough to be drawn.
        let edges: Vec<f64> = (0..=78).map(|step| 10_f64.powf(f64::from(step) / 10.0)).collect();
        let mut bins: Vec<Bin> = edges
            .windows(2)
            .map(|edge| Bin { from_ms: edge[0] / 1_000.0, to_ms: edge[1] / 1_000.0, count: 0 })
            .collect();
        for step in self.0.iter_recorded() {
            let value = step.value_iterated_to() as f64;
            let at = edges.partition_point(|edge| *edge <= value).clamp(1, bins.len()) - 1;
            bins[at].count += step.count_at_value();
        }
        let first = bins.iter().position(|bin| bin.count > 0).unwrap_or(0);
        let end = bins.iter().rposition(|bin| bin.count > 0).map_or(0, |last| last + 1);
        bins[first.min(end)..end].to_vec()
    }
}

/// In milliseconds; all 0 when nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    pub quantile: f64,
    pub latency_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    pub from_ms: f64,
    pub to_ms: f64,
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(latencies: &[u64]) -> Latencies {
        let mut all = Latencies::default();
        for nanos in latencies {
            all.record_ns(*nanos);
        }
        all
    }

    proptest! {
        #[test]
        fn parts_merged_are_the_whole(
            latencies in prop::collection::vec(0_u64..200_000_000_000, 0..200), cut in 0_usize..200,
        ) {
            let (head, tail) = latencies.split_at(cut.min(latencies.len()));
            let mut merged = of(head);
            merged.add(&of(tail));
            prop_assert_eq!(&merged, &of(&latencies));
            prop_assert_eq!(merged.count(), u64::try_from(latencies.len()).unwrap());
            let binned: u64 = merged.bins().iter().map(|bin| bin.count).sum();
            prop_assert_eq!(binned, merged.count());
        }

        #[test]
        fn a_latency_is_kept_to_three_digits(micros in 1_u64..60_000_000) {
            let kept_us = of(&[micros * 1_000]).quantile_ms(1.0) * 1_000.0;
            let exact = micros as f64;
            prop_assert!((kept_us - exact).abs() <= exact / 1_000.0 + 1e-6, "{} {}", kept_us, micros);
        }
    }

    #[test]
    fn nothing_counted_is_all_zero() {
        let none = Latencies::default();
        assert_eq!((none.percentiles().max_ms, none.curve().len(), none.bins().len()), (0.0, 0, 0));
    }

    #[test]
    fn longer_than_a_minute_counts_as_a_minute() {
        let max_ms = of(&[3_600_000_000_000]).percentiles().max_ms;
        assert!((59_900.0..60_100.0).contains(&max_ms), "{max_ms}");
    }
}
