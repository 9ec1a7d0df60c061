//! One figure against its bar, and a table of them.

use std::fmt::Write as _;

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bar {
    pub figure: String,
    pub bar: String,
    /// What was; none when only the long bench measures it.
    pub value: Option<f64>,
    pub is_reached: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    pub fn new(figure: impl Into<String>, bound: Bound, unit: &str, value: Option<f64>) -> Self {
        let (bar, is_reached) = match bound {
            Bound::AtLeast(bound) => (format!("≥ {bound}{unit}"), value.map(|value| value >= bound)),
            Bound::AtMost(bound) => (format!("≤ {bound}{unit}"), value.map(|value| value <= bound)),
        };
        Self { figure: figure.into(), bar, value, is_reached }
    }
}

pub fn table(bars: &[Bar]) -> String {
    let mut out = format!("{:<46}{:>10}   {:<10}\n", "figure", "measured", "bar");
    for bar in bars {
        let value = bar.value.map_or_else(|| "–".to_owned(), show);
        let verdict = match bar.is_reached {
            Some(true) => "reached",
            Some(false) => "NOT REACHED",
            None => "make bench-full measures it",
        };
        // Padded by characters: `≥` has three bytes.
        writeln!(out, "{:<46}{value:>10}   {:<10} {verdict}", bar.figure, bar.bar)
            .expect("a String takes everything");
    }
    out
}

fn show(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value >= 20.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_its_own_side_of_the_bar() {
        for (bound, value, expected) in [
            (Bound::AtLeast(2.5), Some(2.5), Some(true)),
            (Bound::AtLeast(2.5), Some(2.49), Some(false)),
            (Bound::AtMost(0.0), Some(0.0), Some(true)),
            (Bound::AtMost(25.0), Some(25.1), Some(false)),
            (Bound::AtMost(1.2), None, None),
            (Bound::AtMost(1.2), Some(f64::NAN), Some(false)),
        ] {
            assert_eq!(Bar::new("x", bound, "", value).is_reached, expected, "{bound:?} {value:?}");
        }
    }

    #[test]
    fn the_table_says_of_each_figure_whether_it_is_enough() {
        let shown = table(&[
            Bar::new("ratio", Bound::AtLeast(2.5), "", Some(2.71)),
            Bar::new("p99", Bound::AtMost(25.0), " ms", Some(31.04)),
            Bar::new("4 shards", Bound::AtMost(1.2), "", None),
        ]);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(lines[1], format!("{:<46}{:>10}   {:<10} reached", "ratio", "2.71", "≥ 2.5"));
        assert!(lines[2].ends_with("31.0   ≤ 25 ms    NOT REACHED"), "{}", lines[2]);
        assert!(lines[3].ends_with("–   ≤ 1.2      make bench-full measures it"), "{}", lines[3]);
    }
}
