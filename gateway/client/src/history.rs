//! What to read of a user's history.

use std::fmt::Write as _;

use crate::pages::encode;

/// Which transactions, and how many on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    user_id: i64,
    /// On one page: 1 to 100.
    limit: u32,
    more: String,
}

impl HistoryQuery {
    /// All transactions of this user, twenty on a page.
    pub fn of(user_id: i64) -> Self {
        Self { user_id, limit: 20, more: String::new() }
    }

    /// Sets how many are on one page, 1 to 100.
    #[must_use]
    pub fn with_limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Only transactions of this kind, by its name in the API.
    #[must_use]
    pub fn of_kind(self, kind: &str) -> Self {
        self.with("kind", kind)
    }

    /// Only from this time on (RFC 3339).
    #[must_use]
    pub fn since(self, time: &str) -> Self {
        self.with("from", time)
    }

    /// Only before this time (RFC 3339).
    #[must_use]
    pub fn until(self, time: &str) -> Self {
        self.with("to", time)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        write!(self.more, "&{name}={}", encode(value)).expect("a string takes everything");
        self
    }

    pub(crate) fn path(&self) -> String {
        let Self { user_id, limit, more } = self;
        format!("/v1/transactions?user_id={user_id}&limit={limit}{more}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_so_that_nothing_in_it_means_something_else() {
        let query = HistoryQuery::of(7).with_limit(5).of_kind("charge").since("2026-11-22T12:00:00+01:00");
        let begin = "/v1/transactions?user_id=7&limit=5&kind=charge&from=2026-11-22T12%3A00%3A00%2B01%3A00";
        assert_eq!(query.path(), begin);
        assert_eq!(encode("a=&b"), "a%3D%26b");
    }
}
