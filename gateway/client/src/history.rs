//! A user's history, page by page.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::answer::{Page, Transaction};
use crate::asking::Asking;
use crate::error::Error;

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

    pub(crate) fn path(&self, cursor: Option<&str>) -> String {
        let Self { user_id, limit, more } = self;
        let mut path = format!("/v1/transactions?user_id={user_id}&limit={limit}{more}");
        if let Some(cursor) = cursor {
            write!(path, "&cursor={}", encode(cursor)).expect("a string takes everything");
        }
        path
    }
}

/// Encodes as `%XX` what RFC 3986 does not call unreserved.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

/// Follows a history from page to page, newest first.
#[derive(Debug)]
pub struct History {
    asking: Asking,
    query: HistoryQuery,
    session: Option<String>,
    read: VecDeque<Transaction>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    Cursor(String),
    End,
}

impl History {
    pub(crate) fn new(asking: Asking, query: HistoryQuery, session: Option<String>) -> Self {
        Self { asking, query, session, read: VecDeque::new(), next: Next::First }
    }

    /// The next transaction; `None` after the last. After an error the same page is read again.
    pub async fn next(&mut self) -> Result<Option<Transaction>, Error> {
        loop {
            if let Some(transaction) = self.read.pop_front() {
                return Ok(Some(transaction));
            }
            // A page may be empty and not be the end.
            match self.next_page().await? {
                Some(page) => self.read.extend(page.data),
                None => return Ok(None),
            }
        }
    }

    /// The next page; `None` after the last. It lacks what [`next`](Self::next) has read and not returned
    /// yet.
    pub async fn next_page(&mut self) -> Result<Option<Page>, Error> {
        let cursor = match &self.next {
            Next::First => None,
            Next::Cursor(cursor) => Some(cursor.as_str()),
            Next::End => return Ok(None),
        };
        let page: Page = self.asking.read(&self.query.path(cursor), self.session.as_deref()).await?;
        self.next = page.next_cursor.clone().map_or(Next::End, Next::Cursor);
        Ok(Some(page))
    }

    /// All remaining transactions, newest first.
    pub async fn collect(mut self) -> Result<Vec<Transaction>, Error> {
        let mut all = Vec::new();
        while let Some(transaction) = self.next().await? {
            all.push(transaction);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_so_that_nothing_in_it_means_something_else() {
        let query = HistoryQuery::of(7).with_limit(5).of_kind("charge").since("2026-11-22T12:00:00+01:00");
        let begin = "/v1/transactions?user_id=7&limit=5&kind=charge&from=2026-11-22T12%3A00%3A00%2B01%3A00";
        assert_eq!(query.path(None), begin);
        assert_eq!(query.path(Some("a=&b")), format!("{begin}&cursor=a%3D%26b"));
    }
}
