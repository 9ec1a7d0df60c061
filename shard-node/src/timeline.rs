//! The timelines of the shard's primary: it never goes back to an older one.
//!
//! Every promotion begins a timeline. A server that takes writes on an older one was replaced and does not
//! know it. It lacks what its successor acknowledged, and its own writes will be thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prometheus::IntCounter;

/// The highest timeline that this process has seen. Clones share it.
#[derive(Clone)]
pub struct Timelines {
    highest: Arc<AtomicU32>,
    refused: IntCounter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The first one seen, or the same as before.
    Known,
    Newer,
}

/// The server is on an older timeline than one seen before: it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it takes writes on timeline {found}, but the shard is on {seen} already: it was replaced")]
pub struct OlderTimeline {
    found: u32,
    seen: u32,
}

impl Timelines {
    pub fn new(refused: IntCounter) -> Self {
        Self { highest: Arc::default(), refused }
    }

    /// Whether a server that takes writes on `timeline` may be used. Remembers a newer one.
    ///
    /// # Errors
    /// [`OlderTimeline`], which is logged and counted here.
    pub fn admit(&self, timeline: u32) -> Result<Admission, OlderTimeline> {
        let seen = self.highest.fetch_max(timeline, Ordering::AcqRel);
        if timeline < seen {
            self.refused.inc();
            tracing::error!(
                timeline,
                seen,
                "a replaced primary still takes writes; it is not used here, and should be stopped"
            );
            return Err(OlderTimeline { found: timeline, seen });
        }
        if timeline > seen && seen > 0 {
            tracing::warn!(timeline, before = seen, "the shard has a new primary");
            return Ok(Admission::Newer);
        }
        Ok(Admission::Known)
    }

    /// Whether a newer one than this was seen.
    pub fn is_over(&self, timeline: u32) -> bool {
        timeline < self.highest.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_timeline_is_refused_and_counted_whatever_came_in_between() {
        let refused = IntCounter::new("refused", "refused").unwrap();
        let timelines = Timelines::new(refused.clone());
        let (known, newer) = (Ok(Admission::Known), Ok(Admission::Newer));
        let older = |found, seen| Err(OlderTimeline { found, seen });
        for (timeline, expected) in
            [(3, known), (3, known), (2, older(2, 3)), (4, newer), (3, older(3, 4)), (4, known)]
        {
            assert_eq!(timelines.admit(timeline), expected, "{timeline}");
        }
        assert_eq!(refused.get(), 2);
        assert!(timelines.is_over(3) && !timelines.is_over(4));
    }
}
