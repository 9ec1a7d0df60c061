//! Reads what a service counts off its page of metrics
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

/// One line of a page: the labels as they are written, and the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    labels: &'a str,
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// The value of a label. PicoPay's own have no quotes in them.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.split(',').find_map(|label| {
            let value = label.strip_prefix(name)?.strip_prefix("=\"")?;
            value.strip_suffix('"')
        })
    }
}

/// All samples of a name. A line that cannot be read is left out.
pub fn samples<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = Sample<'a>> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some(Sample { labels, value: value.split(' ').next()?.parse().ok()? })
    })
}

/// The sum over all labels; zero when there is none.
pub fn sum(page: &str, name: &str) -> f64 {
    samples(page, name).map(|sample| sample.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels_and_no_other_name_is() {
        let page = "# TYPE queue gauge\nqueue{shard=\"shard-1\",lane=\"0\"} 3\nqueue{shard=\"shard-2\"} 4.5\nqueue_max 9\nup 1\n\
                    queue{shard=\"x\"} much\n";
        let read: Vec<_> =
            samples(page, "queue").map(|sample| (sample.label("shard"), sample.value)).collect();
        assert_eq!(read, [(Some("shard-1"), 3.0), (Some("shard-2"), 4.5)]);
        assert_eq!(samples(page, "queue").next().unwrap().label("lane"), Some("0"));
        for (name, expected) in [("queue", 7.5), ("queue_max", 9.0), ("up", 1.0), ("down", 0.0)] {
            assert!((sum(page, name) - expected).abs() < f64::EPSILON, "{name}");
        }
    }
}
