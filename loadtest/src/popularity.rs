//! Which user an operation is about: all alike, a few far more than others, or one above all.

use std::fmt;
use std::str::FromStr;

use crate::random::Random;

/// How operations spread over users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// All users alike.
    Uniform,
    /// The k-th user gets a share proportional to 1/k^exponent.
    Zipf {
        /// Above 0; 1 is the classic one.
        exponent: f64,
    },
}

/// What would be a distribution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write uniform, or zipf:EXPONENT with an exponent above 0 and at most 10, for example zipf:1.1")]
pub struct DistributionError;

/// Steeper than this, everybody but the first user is a rounding error.
const ZIPF_EXPONENT_MAX: f64 = 10.0;

impl FromStr for Distribution {
    type Err = DistributionError;

    fn from_str(text: &str) -> Result<Self, DistributionError> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        let exponent = text.strip_prefix("zipf:").and_then(|text| text.parse::<f64>().ok());
        match exponent {
            Some(exponent) if exponent > 0.0 && exponent <= ZIPF_EXPONENT_MAX => Ok(Self::Zipf { exponent }),
            _ => Err(DistributionError),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => formatter.write_str("uniform"),
            Self::Zipf { exponent } => write!(formatter, "zipf:{exponent}"),
        }
    }
}

/// Draws users' ranks, 0 up to `users`.
#[derive(Debug, Clone)]
pub struct Popularity {
    users: u64,
    zipf: Option<Zipf>,
}

impl Popularity {
    /// Of `users` users, at least one.
    pub fn new(distribution: Distribution, users: u64) -> Self {
        assert!(users > 0, "somebody has to be charged");
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf { exponent } => Some(Zipf::new(exponent, users as f64)),
        };
        Self { users, zipf }
    }

    /// The next one.
    pub fn draw(&self, random: &mut Random) -> u64 {
        match &self.zipf {
            None => random.below(self.users),
            Some(zipf) => zipf.draw(random) - 1,
        }
    }
}

/// Zipf's law without a table: rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate
/// variates from monotone discrete distributions", 1996). Constant time for any number of users.
#[derive(Debug, Clone)]
struct Zipf {
    exponent: f64,
    last: f64,
    integral_first: f64,
    integral_last: f64,
    sure: f64,
}

impl Zipf {
    fn new(exponent: f64, last: f64) -> Self {
        let mut zipf = Self { exponent, last, integral_first: 0.0, integral_last: 0.0, sure: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(last + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// 1 up to and including `last`.
    fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let point = self.inverse(area);
            let rank = point.round().clamp(1.0, self.last);
            if rank - point <= self.sure || area >= self.integral(rank + 0.5) - self.density(rank) {
                return float_to_count(rank);
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_minus_one_over((1.0 - self.exponent) * log) * log
    }

    fn inverse(&self, area: f64) -> f64 {
        // Rounding can carry it just past -1, where the logarithm ends.
        let t = (area * (1.0 - self.exponent)).max(-1.0);
        (ln_one_plus_over(t) * area).exp()
    }
}

/// (e^x − 1) / x, also near 0.
fn exp_minus_one_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// ln(1 + x) / x, also near 0.
fn ln_one_plus_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 1 to the users' count"
)]
fn float_to_count(rank: f64) -> u64 {
    rank as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zipf_gives_each_rank_its_share() {
        for exponent in [0.5, 1.0, 1.1, 2.0] {
            let users = 50_u32;
            let popularity = Popularity::new(Distribution::Zipf { exponent }, u64::from(users));
            let mut random = Random::new(3, 0);
            let draws = 400_000_u32;
            let mut seen = vec![0_u32; 50];
            for _ in 0..draws {
                seen[usize::try_from(popularity.draw(&mut random)).unwrap()] += 1;
            }
            let total: f64 = (1..=users).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for (rank, count) in (1..=users).zip(seen) {
                let expected = f64::from(draws) * f64::from(rank).powf(-exponent) / total;
                // Five standard deviations of a binomial, and a little for tiny ones.
                let slack = 5.0 * expected.sqrt() + 3.0;
                assert!((f64::from(count) - expected).abs() < slack, "{exponent} {rank}: {count} {expected}");
            }
        }
    }

    #[test]
    fn only_sensible_distributions_are_read() {
        for (text, expected) in [
            ("uniform", Some("uniform")),
            ("zipf:1.1", Some("zipf:1.1")),
            ("zipf:0", None),
            ("zipf:-1", None),
            ("zipf:NaN", None),
            ("zipf:inf", None),
            ("zipf", None),
            ("", None),
        ] {
            let read = text.parse::<Distribution>().ok().map(|distribution| distribution.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_rank_is_always_one_of_the_users(seed: u64, users in 1_u64..10_000_000, exponent in 0.01_f64..10.0) {
            let mut random = Random::new(seed, 0);
            for distribution in [Distribution::Uniform, Distribution::Zipf { exponent }] {
                let popularity = Popularity::new(distribution, users);
                for _ in 0..50 {
                    prop_assert!(popularity.draw(&mut random) < users);
                }
            }
        }
    }
}
