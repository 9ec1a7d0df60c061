//! Transaction ids: they sort by time and find their own shard.
//!
//! UUIDv8 (RFC 9562, section 5.8), most significant bit first:
//!
//! | bits | what |
//! | --- | --- |
//! | 48 | Unix time in milliseconds |
//! | 4 | version, 8 |
//! | 12 | slot |
//! | 2 | variant |
//! | 30 | the user's tag ([`UserTag`]) |
//! | 16 | sequence within the millisecond |
//! | 16 | random, for two processes that serve one shard in the same millisecond |
//!
//! The tag stands before the sequence, so that one user's ids sort in the order in which they were booked.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use uuid::{Uuid, Variant};

use crate::slot::{SLOT_COUNT, Slot, UserId, UserTag};

const SEQUENCE_BITS: u32 = 16;

/// The id of a transaction. Any UUID can be asked for; only those that PicoPay made are ever found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TransactionId(Uuid);

impl TransactionId {
    /// Takes any UUID: from a client, or from the ledger.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID, as Postgres keeps it.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    /// The slot that the id names. Only meaningful for ids that PicoPay made; any other leads to a
    /// shard that does not know it.
    pub fn slot(self) -> Slot {
        let bits = u16::try_from((self.0.as_u128() >> 64) & u128::from(SLOT_COUNT - 1)).expect("twelve bits");
        Slot::new(bits).expect("twelve bits")
    }

    /// The tag of its user.
    pub fn tag(self) -> UserTag {
        UserTag::from_bits(u32::try_from((self.0.as_u128() >> 32) & 0x3fff_ffff).expect("thirty bits"))
    }

    /// When it was made: Unix time in milliseconds.
    pub fn unix_ms(self) -> i64 {
        i64::try_from(self.0.as_u128() >> 80).expect("48 bits")
    }

    /// The smallest id that a transaction made at `unix_ms` could have: the bound of a search by time.
    pub fn first_at(unix_ms: i64) -> Self {
        let ms = u128::try_from(unix_ms.clamp(0, (1 << 48) - 1)).expect("not negative");
        Self(Uuid::from_u128(ms << 80))
    }

    /// Whether PicoPay could have made it: a UUIDv8 of the RFC's variant.
    pub fn is_ours(self) -> bool {
        self.0.get_version_num() == 8 && self.0.get_variant() == Variant::RFC4122
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Makes ids that rise within this process, even when its clock steps back.
#[derive(Debug, Default)]
pub struct IdSource {
    /// The last millisecond and sequence given out, in one number.
    last: AtomicU64,
}

/// The part of an id that does not depend on the user, so that pure code can make the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdStamp {
    /// Millisecond and sequence, in one number.
    time: u64,
    random: u16,
}

impl IdSource {
    /// The next stamp. More than 65,536 in one millisecond borrow from the next.
    pub fn next_stamp(&self, now_unix_ms: i64) -> IdStamp {
        let now = u64::try_from(now_unix_ms.max(0)).expect("not negative") << SEQUENCE_BITS;
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
            .expect("the closure always gives a value");
        IdStamp { time: now.max(last + 1), random: rand::random() }
    }
}

impl IdStamp {
    /// The id for `user`.
    pub fn id_for(self, user: UserId) -> TransactionId {
        let (ms, sequence) = (self.time >> SEQUENCE_BITS, self.time & 0xffff);
        let bits = (u128::from(ms) << 80)
            | (0x8 << 76)
            | (u128::from(user.slot().get()) << 64)
            | (0b10 << 62)
            | (u128::from(user.tag().get()) << 32)
            | (u128::from(sequence) << 16)
            | u128::from(self.random);
        TransactionId(Uuid::from_u128(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::try_from(id).unwrap()
    }

    #[test]
    fn an_id_carries_its_time_its_slot_and_its_users_tag() {
        let now = 1_795_435_200_123;
        for id in [1, 42, i64::MAX] {
            let made = IdSource::default().next_stamp(now).id_for(user(id));
            assert_eq!(made.unix_ms(), now);
            assert_eq!(made.slot(), user(id).slot());
            assert_eq!(made.tag(), user(id).tag());
            assert!(made.is_ours());
            assert!(made >= TransactionId::first_at(now) && made < TransactionId::first_at(now + 1));
        }
    }

    #[test]
    fn ids_of_a_user_rise_even_when_the_clock_steps_back() {
        let source = IdSource::default();
        let made: Vec<_> =
            (0..70_000).map(|n| source.next_stamp(1_000_000 - n % 3).id_for(user(7))).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn other_peoples_uuids_are_not_ours() {
        for uuid in [Uuid::nil(), Uuid::max(), Uuid::new_v4()] {
            assert!(!TransactionId::from_uuid(uuid).is_ours());
            let _ = TransactionId::from_uuid(uuid).slot();
        }
    }
}
