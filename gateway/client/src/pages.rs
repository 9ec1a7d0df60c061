//! Lists, page by page.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde::de::DeserializeOwned;

use crate::answer::Page;
use crate::asking::Asking;
use crate::error::Error;

/// Follows a list from page to page, newest first.
#[derive(Debug)]
pub struct Pages<T> {
    asking: Asking,
    /// The path of the first page, to which a cursor is added.
    path: String,
    session: Option<String>,
    read: VecDeque<T>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    Cursor(String),
    End,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(crate) fn new(asking: Asking, path: String, session: Option<String>) -> Self {
        Self { asking, path, session, read: VecDeque::new(), next: Next::First }
    }

    /// The next entry; `None` after the last. After an error the same page is read again.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                return Ok(Some(entry));
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
    pub async fn next_page(&mut self) -> Result<Option<Page<T>>, Error> {
        let path = match &self.next {
            Next::First => self.path.clone(),
            Next::Cursor(cursor) => format!("{}&cursor={}", self.path, encode(cursor)),
            Next::End => return Ok(None),
        };
        let page: Page<T> = self.asking.read(&path, self.session.as_deref()).await?;
        self.next = page.next_cursor.clone().map_or(Next::End, Next::Cursor);
        Ok(Some(page))
    }

    /// All remaining entries, newest first.
    pub async fn collect(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await? {
            all.push(entry);
        }
        Ok(all)
    }
}

/// Encodes as `%XX` what RFC 3986 does not call unreserved.
pub(crate) fn encode(value: &str) -> String {
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
