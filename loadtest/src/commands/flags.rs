//! How the values of flags are read.

use std::time::Duration;

use anyhow::bail;
use picopay_loadtest::arrivals::Spacing;
use picopay_loadtest::run::Rhythm;

/// Beyond what any machine sends; a zero too many.
const RATE_MAX: f64 = 10_000_000.0;

pub fn rhythm(rate: Option<f64>, spacing: Spacing, waiting_max: Option<usize>) -> anyhow::Result<Rhythm> {
    let Some(rate_per_second) = rate else { return Ok(Rhythm::Closed) };
    // Not a number is neither.
    if !(rate_per_second > 0.0 && rate_per_second <= RATE_MAX) {
        bail!("--rate {rate_per_second}: arrivals a second, above 0 and at most {RATE_MAX}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and ten million")]
    let one_second = rate_per_second.ceil() as usize;
    Ok(Rhythm::Open { rate_per_second, spacing, waiting_max: waiting_max.unwrap_or(one_second) })
}

/// Seconds as everybody types them: `10`, `0.5`, `10s`, `2m`.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60.0),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * factor);
    // A day: longer is a typing error.
    match seconds.filter(|seconds| (0.0..=86_400.0).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err("write seconds, for example 10, 0.5 or 2m, at most a day".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_as_people_type_them() {
        for (text, expected) in [
            ("10", Some(10.0)),
            ("0.5s", Some(0.5)),
            ("2m", Some(120.0)),
            ("-1", None),
            ("NaN", None),
            ("1h", None),
            ("", None),
        ] {
            let read = parse_seconds(text).ok().map(|duration| duration.as_secs_f64());
            assert_eq!(read, expected, "{text:?}");
        }
    }
}
