//! The cursor of a history: where a page ended, as an opaque text.
//!
//! It carries a hash of its query. With another query it would silently skip transactions, so it is refused
//! there. It is no secret: a forged one shows only what the key may see anyway.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picopay_shared::id::TransactionId;
use picopay_shared::query::HistoryQuery;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Changes with the layout below, so that a cursor of an older gateway is refused and not misread.
const VERSION: u8 = 1;
const LENGTH: usize = 1 + 16 + 8;

pub const NOT_USABLE: &str =
    "is not a next_cursor of this very query; start again without it, or repeat the query that it came from";

/// The cursor for the page after this one; nothing below `last` was looked at yet.
pub fn encode(last: TransactionId, query: &HistoryQuery) -> String {
    let mut bytes = [0; LENGTH];
    bytes[0] = VERSION;
    bytes[1..17].copy_from_slice(last.as_uuid().as_bytes());
    bytes[17..].copy_from_slice(&query_hash(query));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The last transaction that the page before looked at; `None` for another query's cursor or none at all.
pub fn decode(cursor: &str, query: &HistoryQuery) -> Option<TransactionId> {
    let bytes: [u8; LENGTH] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
    let id = Uuid::from_slice(&bytes[1..17]).ok()?;
    (bytes[0] == VERSION && bytes[17..] == query_hash(query)).then(|| TransactionId::from_uuid(id))
}

/// A hash of everything that chooses transactions. `limit` may differ from page to page.
fn query_hash(query: &HistoryQuery) -> [u8; 8] {
    let HistoryQuery { user_id, limit: _, before: _, kind, from_ms, to_ms, takes_short_pages: _ } = query;
    let mut hash = Sha256::new();
    hash.update(user_id.get().to_le_bytes());
    hash.update([kind.map_or(0, |kind| kind.as_str().as_bytes()[0])]);
    for bound in [from_ms, to_ms] {
        hash.update([u8::from(bound.is_some())]);
        hash.update(bound.unwrap_or_default().to_le_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    short
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::Kind;
    use picopay_shared::slot::UserId;

    use super::*;

    fn query(user: i64) -> HistoryQuery {
        HistoryQuery {
            user_id: UserId::try_from(user).unwrap(),
            limit: 20,
            before: None,
            kind: None,
            from_ms: None,
            to_ms: None,
            takes_short_pages: true,
        }
    }

    #[test]
    fn a_cursor_goes_on_where_its_own_query_ended() {
        let id = TransactionId::from_uuid(Uuid::from_u128(42));
        let cursor = encode(id, &query(1));
        assert_eq!(decode(&cursor, &query(1)), Some(id));
        assert_eq!(decode(&cursor, &HistoryQuery { limit: 7, before: Some(id), ..query(1) }), Some(id));
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        let cursor = encode(TransactionId::from_uuid(Uuid::from_u128(42)), &query(1));
        for other in [
            query(2),
            HistoryQuery { kind: Some(Kind::Charge), ..query(1) },
            HistoryQuery { from_ms: Some(0), ..query(1) },
            HistoryQuery { to_ms: Some(0), ..query(1) },
        ] {
            assert_eq!(decode(&cursor, &other), None, "{other:?}");
        }
        let kinds = Kind::ALL.map(|kind| query_hash(&HistoryQuery { kind: Some(kind), ..query(1) }));
        assert!(kinds[0] != kinds[1] && kinds[1] != kinds[2] && kinds[0] != kinds[2]);
    }

    #[test]
    fn what_was_never_a_cursor_is_refused() {
        let cursor = encode(TransactionId::from_uuid(Uuid::from_u128(42)), &query(1));
        let other_version = format!("B{}", &cursor[1..]);
        for text in [
            "",
            "x",
            "====",
            "AQ",
            &cursor[1..],
            &format!("{cursor}A"),
            &format!("{cursor}="),
            &other_version,
        ] {
            assert_eq!(decode(text, &query(1)), None, "{text:?}");
        }
    }
}
