//! What a run says while it goes on: one line a second, under it a bar where there is a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::{Errors, Phase, Second, SecondFigures};

/// Most kinds of errors on one line; the report has all.
const ERRORS_SHOWN_MAX: usize = 3;
/// The heading comes again after so many lines, a screen of most terminals.
const LINES_BETWEEN_HEADINGS: u64 = 20;

/// Standard error, so that standard output holds only the result.
#[derive(Debug)]
pub struct Live {
    bar: Option<ProgressBar>,
    warmup: Duration,
    duration: Duration,
    lines: u64,
}

impl Live {
    pub fn new(warmup: Duration, duration: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} s ");
            let seconds = (warmup + duration).as_secs_f64().ceil();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run")]
            ProgressBar::new(seconds as u64).with_style(style.expect("a fixed template"))
        });
        Self { bar, warmup, duration, lines: 0 }
    }

    pub fn show(&mut self, second: &Second) {
        if self.lines.is_multiple_of(LINES_BETWEEN_HEADINGS) {
            self.say(HEADING);
        }
        self.lines += 1;
        self.say(&line(&second.figures(self.warmup, self.duration)));
        if let Some(bar) = &self.bar {
            bar.set_position((second.index + 1).min(bar.length().unwrap_or(u64::MAX)));
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

const HEADING: &str = "      s  offered/s achieved/s     p50 ms     p99 ms  errors";

fn line(figures: &SecondFigures) -> String {
    let latency =
        |value_ms: f64| if figures.max_ms == 0.0 { "–".to_owned() } else { format!("{value_ms:.2}") };
    let mut line = format!(
        "{:>7} {:>10} {:>10} {:>10} {:>10}  {}",
        figures.second,
        figures.offered,
        figures.achieved,
        latency(figures.p50_ms),
        latency(figures.p99_ms),
        errors(&figures.errors),
    );
    if figures.dropped > 0 {
        write!(line, "  dropped {}", figures.dropped).expect("a String takes everything");
    }
    if figures.waiting > 0 {
        write!(line, "  waiting {}", figures.waiting).expect("a String takes everything");
    }
    match figures.phase {
        Phase::WarmUp => line.push_str("  (warm-up)"),
        Phase::Measured => {}
        Phase::Drain => line.push_str("  (last answers)"),
    }
    line
}

fn errors(errors: &Errors) -> String {
    if errors.is_empty() {
        return "0".to_owned();
    }
    let mut sorted: Vec<_> = errors.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown: Vec<String> =
        sorted.iter().take(ERRORS_SHOWN_MAX).map(|(code, count)| format!("{code} {count}")).collect();
    let more = if sorted.len() > ERRORS_SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_below_its_heading() {
        let mut second =
            Second { index: 4, offered: 5_000, achieved: 4_990, dropped: 3, ..Second::default() };
        second.latency.record_ns(2_500_000);
        second.errors.insert("overloaded".to_owned(), 7);
        second.errors.insert("client:no-answer".to_owned(), 9);
        let line = line(&second.figures(Duration::ZERO, Duration::from_secs(9)));
        assert_eq!(
            line,
            "      5       5000       4990       2.50       2.50  client:no-answer 9, overloaded 7  dropped 3"
        );
        assert_eq!(HEADING.find("achieved/s").map(|at| at + 10), line.find("4990").map(|at| at + 4));
    }

    #[test]
    fn a_second_without_answers_has_no_latency() {
        let second = Second::default().figures(Duration::from_secs(1), Duration::ZERO);
        assert!(line(&second).ends_with("–          –  0  (warm-up)"));
    }
}
