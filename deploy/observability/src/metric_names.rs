//! The metrics that an expression names.

use std::collections::BTreeSet;

/// How the names of all metrics begin that PicoPay has, and those that the rules record.
const BEGINNINGS: [&str; 5] = ["picopay_", "picopay:", "charge_re", "transfer_re", "process_"];

pub fn metric_names(expressions: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    (expressions.split(|letter: char| !is_part(letter)))
        .filter(|word| BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_named_wherever_it_stands() {
        let text = "sum by (shard) (rate(picopay_a_total{job=~\"picopay-.+\"}[5m])) / picopay:b:ratio > up and process_c";
        let names: Vec<String> = metric_names(text).into_iter().collect();
        assert_eq!(names, ["picopay:b:ratio", "picopay_a_total", "process_c"]);
    }
}
