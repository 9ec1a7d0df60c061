//! What a service counts, read from its page of metrics.

/// The sum of a counter or gauge over its labels. `name` may go on with the first labels, as in `reads_total{source="primary"`.
///
/// # Panics
/// When a value is no number.
pub fn metric_sum(page: &str, name: &str) -> f64 {
    let of_name =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ',', '}', ' ']));
    let value = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok());
    page.lines().filter(of_name).map(|line| value(line).unwrap_or_else(|| panic!("no number: {line}"))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_is_counted() {
        let page = "# HELP reads Reads.\nreads{from=\"a\",to=\"b\"} 1\nreads{from=\"c\"} 2.5\nreads_total 7\nready 1\n";
        for (name, sum) in [
            ("reads", 3.5),
            ("reads{from=\"a\"", 1.0),
            ("reads{from=\"c\"", 2.5),
            ("read", 0.0),
            ("ready", 1.0),
        ] {
            assert!((metric_sum(page, name) - sum).abs() < f64::EPSILON, "{name}");
        }
    }
}
