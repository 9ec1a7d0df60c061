//! The cursor of a list: where a page ended, as an opaque text.
//!
//! It carries a hash of its query. With another query it would silently skip entries, so it is refused
//! there. It is no secret: a forged one shows only what the key may see anyway.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picopay_shared::command::Kind;
use picopay_shared::hold::HoldStatus;
use picopay_shared::id::TransactionId;
use picopay_shared::query::{HistoryQuery, HoldsQuery};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::parameters::Parameters;

/// Changes with the layout below, so that a cursor of an older gateway is refused and not misread.
const VERSION: u8 = 1;
const LENGTH: usize = 1 + 16 + 8;

const NOT_USABLE: &str =
    "is not a next_cursor of this very query; start again without it, or repeat the query that it came from";

/// The cursors of one query.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    query_hash: [u8; 8],
}

impl Cursor {
    /// Everything that chooses transactions counts. `limit` may differ from page to page.
    pub fn of_history(query: &HistoryQuery) -> Self {
        let HistoryQuery { user_id, limit: _, before: _, kind, from_ms, to_ms, takes_short_pages: _ } = query;
        let mut hash = Sha256::new();
        hash.update(user_id.get().to_le_bytes());
        // The first letter, as gateways from before there were transfers do, and the whole word where it needs more.
        let word = kind.map_or(&[0][..], |kind| kind.as_str().as_bytes());
        hash.update(&word[..1]);
        for bound in [from_ms, to_ms] {
            hash.update([u8::from(bound.is_some())]);
            hash.update(bound.unwrap_or_default().to_le_bytes());
        }
        if matches!(kind, Some(Kind::TransferOut | Kind::TransferIn | Kind::TransferBack)) {
            hash.update(word);
        }
        Self::of(hash)
    }

    pub fn of_holds(query: &HoldsQuery) -> Self {
        let HoldsQuery { user_id, limit: _, before: _, status } = query;
        let mut hash = Sha256::new();
        hash.update(b"holds");
        hash.update(user_id.get().to_le_bytes());
        hash.update(status.map_or("", HoldStatus::as_str));
        Self::of(hash)
    }

    fn of(hash: Sha256) -> Self {
        let digest: [u8; 32] = hash.finalize().into();
        let mut query_hash = [0; 8];
        query_hash.copy_from_slice(&digest[..8]);
        Self { query_hash }
    }

    /// The cursor for the page after this one; nothing below `last` was looked at yet.
    pub fn encode(self, last: TransactionId) -> String {
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(last.as_uuid().as_bytes());
        bytes[17..].copy_from_slice(&self.query_hash);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads where the page before ended. Errors go to `parameters`.
    pub fn read(self, parameters: &mut Parameters) -> Option<TransactionId> {
        parameters.optional("cursor", |text| self.decode(text).ok_or_else(|| NOT_USABLE.to_owned()))
    }

    /// The last entry that the page before looked at; `None` for another query's cursor or none at all.
    fn decode(self, cursor: &str) -> Option<TransactionId> {
        let bytes: [u8; LENGTH] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
        let id = Uuid::from_slice(&bytes[1..17]).ok()?;
        (bytes[0] == VERSION && bytes[17..] == self.query_hash).then(|| TransactionId::from_uuid(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
        let cursor = Cursor::of_history(&query(1)).encode(id);
        for same in [query(1), HistoryQuery { limit: 7, before: Some(id), ..query(1) }] {
            assert_eq!(Cursor::of_history(&same).decode(&cursor), Some(id));
        }
    }

    #[test]
    fn a_cursor_of_another_query_is_refused() {
        let cursor = Cursor::of_history(&query(1)).encode(TransactionId::from_uuid(Uuid::from_u128(42)));
        for other in [
            query(2),
            HistoryQuery { kind: Some(Kind::Charge), ..query(1) },
            HistoryQuery { from_ms: Some(0), ..query(1) },
            HistoryQuery { to_ms: Some(0), ..query(1) },
        ] {
            assert_eq!(Cursor::of_history(&other).decode(&cursor), None, "{other:?}");
        }
        let of_kind = |kind| Cursor::of_history(&HistoryQuery { kind: Some(kind), ..query(1) }).query_hash;
        let kinds: HashSet<[u8; 8]> = Kind::ALL.map(of_kind).into_iter().collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        let of_status = |status| {
            let user_id = UserId::try_from(1).unwrap();
            Cursor::of_holds(&HoldsQuery { user_id, limit: 20, before: None, status })
        };
        let statuses = HoldStatus::ALL.map(Some).into_iter().chain([None]);
        let hashes: HashSet<[u8; 8]> = statuses.map(|status| of_status(status).query_hash).collect();
        assert_eq!(hashes.len(), 5);
        assert_eq!(of_status(None).decode(&cursor), None);
    }

    #[test]
    fn what_was_never_a_cursor_is_refused() {
        let cursor = Cursor::of_history(&query(1)).encode(TransactionId::from_uuid(Uuid::from_u128(42)));
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
            assert_eq!(Cursor::of_history(&query(1)).decode(text), None, "{text:?}");
        }
    }
}
