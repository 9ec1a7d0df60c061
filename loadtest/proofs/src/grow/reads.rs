//! What clients read while slots move, and what an answer must not miss.

use std::rc::Rc;

use picopay_shared::slot::UserId;
use serde::Deserialize;

use super::books::{Books, Judged, Own};
use crate::findings::Promise;
use picopay_loadtest::traffic::{Kind, problem_code};
use picopay_loadtest::write::{UuidText, text};

/// Transactions on a page of history: the API's own default.
const PAGE: usize = 20;

#[derive(Debug, Clone)]
pub enum Reading {
    /// The newest page of a user, with a session token: that write is on it, and no fewer rows than then.
    History(Rc<Own>),
    Lookup(Rc<Own>),
    OldCharge {
        user: UserId,
        id: UuidText,
    },
    Balance {
        user: UserId,
        /// Set if nothing of the user is on its way.
        quiet: Option<(u64, u32)>,
    },
}

impl Reading {
    pub fn user(&self) -> UserId {
        match self {
            Self::History(own) | Self::Lookup(own) => own.write.user,
            Self::OldCharge { user, .. } | Self::Balance { user, .. } => *user,
        }
    }

    pub fn session(&self) -> Option<&[u8]> {
        match self {
            Self::History(own) | Self::Lookup(own) => Some(&own.session),
            Self::OldCharge { .. } | Self::Balance { .. } => None,
        }
    }

    pub fn id(&self) -> Option<&UuidText> {
        match self {
            Self::History(own) | Self::Lookup(own) => Some(&own.id),
            Self::OldCharge { id, .. } => Some(id),
            Self::Balance { .. } => None,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Balance { .. } => Kind::Balance,
            _ => Kind::History,
        }
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Listed<'a>>,
}

#[derive(Deserialize)]
struct LookedUp<'a> {
    #[serde(borrow)]
    transaction: Listed<'a>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    id: &'a str,
    user_id: i64,
}

#[derive(Deserialize)]
struct BalanceOf<'a> {
    user_id: i64,
    balance: &'a str,
}

pub fn check(books: &Books, reading: &Reading, status: u16, body: &[u8]) -> Judged {
    if status >= 500 || status == 429 {
        return Judged::Again(problem_code(status, body).into_owned());
    }
    let wrong = match reading {
        _ if status != 200 => Some("an answer"),
        Reading::History(own) => miss_in_page(own, body),
        Reading::Lookup(_) | Reading::OldCharge { .. } => {
            let found = serde_json::from_slice::<LookedUp<'_>>(body);
            let is_right = found.is_ok_and(|LookedUp { transaction }| {
                let is_it = reading.id().is_some_and(|id| transaction.id.as_bytes() == id);
                is_it && transaction.user_id == reading.user().get()
            });
            (!is_right).then_some("the transaction")
        }
        Reading::Balance { user, quiet } => {
            let digits =
                |text: &str| text.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>();
            match serde_json::from_slice::<BalanceOf<'_>>(body) {
                Ok(answer) if answer.user_id == user.get() => {
                    let is_off = quiet.is_some_and(|(balance, version)| {
                        books.is_quiet_since(*user, version) && digits(answer.balance).parse() != Ok(balance)
                    });
                    is_off.then_some("the balance after the last write")
                }
                _ => Some("the balance"),
            }
        }
    };
    let Some(missed) = wrong else { return Judged::Decided(None) };
    let about = match reading {
        Reading::History(own) => {
            format!("transaction {}, of {} or more in the history", text(&own.id), own.listed)
        }
        Reading::Balance { quiet, .. } => format!("balance {quiet:?}"),
        _ => format!("transaction {}", reading.id().map(text).unwrap_or_default()),
    };
    books.add_finding(
        Promise::SameHistory,
        format!(
            "a read misses {missed}: user {}, {about}: {status} {}",
            reading.user(),
            String::from_utf8_lossy(body)
        ),
    );
    Judged::Wrong
}

fn miss_in_page(own: &Own, body: &[u8]) -> Option<&'static str> {
    let Ok(Page { data }) = serde_json::from_slice::<Page<'_>>(body) else { return Some("the page") };
    if data.iter().any(|row| row.user_id != own.write.user.get()) {
        return Some("the user");
    }
    if !data.is_sorted_by(|one, other| one.id > other.id) {
        return Some("the order");
    }
    if data.len() < PAGE.min(usize::try_from(own.listed).unwrap_or(PAGE)) {
        return Some("older transactions");
    }
    // It may have been pushed off by newer ones.
    let is_beyond = data.len() == PAGE && data.last().is_some_and(|row| row.id.as_bytes() > &own.id[..]);
    let is_there = data.iter().any(|row| row.id.as_bytes() == own.id);
    (!is_there && !is_beyond).then_some("the client's own write")
}

#[cfg(test)]
mod tests {
    use super::*;
    use picopay_loadtest::write::{KeySource, Wish, Write};

    fn page(ids: &[&str]) -> Vec<u8> {
        let rows: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}","user_id":1}}"#)).collect();
        format!(r#"{{"data":[{}]}}"#, rows.join(",")).into_bytes()
    }

    #[test]
    fn a_history_that_misses_an_own_write_or_an_older_one_is_noticed() {
        let id = |number: usize| format!("019a9f3a-7a6b-892e-9356-{number:012}");
        let (user, key) = (UserId::try_from(1).unwrap(), KeySource::new(1, 1).next_key());
        let write = Write { wish: Wish::Charge, user, minor_units: 1, key };
        let own = Own { write, id: id(50).as_bytes().try_into().unwrap(), session: Vec::new(), listed: 3 };
        let newest = |from: usize, count: usize| (0..count).map(|less| id(from - less)).collect::<Vec<_>>();
        for (ids, missed) in [
            (newest(50, 3), None),
            (newest(51, 4), None),
            (newest(49, 3), Some("the client's own write")),
            (newest(50, 2), Some("older transactions")),
            (newest(80, 20), None),
            (newest(69, 19), Some("the client's own write")),
            (vec![id(49), id(50), id(48)], Some("the order")),
        ] {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            assert_eq!(miss_in_page(&own, &page(&ids)), missed, "{ids:?}");
        }
    }
}
