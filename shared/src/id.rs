//! Transaction ids: they sort by time and name their own shard and user.
//!
//! UUIDv8 (RFC 9562, section 5.8), most significant bit first:
//!
//! | bits | what |
//! | --- | --- |
//! | 1 | whether it is a refusal's |
//! | 47 | Unix time in milliseconds |
//! | 4 | version, 8 |
//! | 12 | slot |
//! | 2 | variant |
//! | 30 | the user's tag ([`UserTag`]) |
//! | 10 | sequence within the millisecond |
//! | 22 | what is left of the user's hash |
//!
//! The tag comes before the sequence, so that one user's ids sort in the order in which they were booked ([`Stamp`]).
//! Slot, tag and the last bits are the whole hash, which leads back to the user. So an id finds its transaction like the
//! primary key does. Ids of earlier releases have a sequence of 16 bits and 16 random ones, and are found by slot and tag.
//!
//! Refusals cost nothing to make, and nobody lists them. Their ids have a range of their own, and rise by time there. So
//! a history never reads over them, and a move still knows which are new.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::{Uuid, Variant};

use crate::slot::{SLOT_COUNT, Slot, UserId, UserTag};

/// Bits of a [`Stamp`] below its milliseconds.
const SEQUENCE_BITS: u32 = 16;
/// Of those, the bits that no id has room for: stamps are as many steps apart.
const UNUSED_BITS: u32 = 6;
/// Bits of the user's hash at the end of an id.
const REST_BITS: u32 = 22;
/// The first bit of a refusal's id.
const REFUSAL: u128 = 1 << 127;

/// The id of a transaction. Any UUID may be asked for; only PicoPay's own are ever found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TransactionId(Uuid);

impl TransactionId {
    /// Takes any UUID, from a client or the ledger.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID, as Postgres keeps it.
    pub fn as_uuid(self) -> Uuid {
        self.0
    }

    /// The slot in the id. Only meaningful for ids that PicoPay made; any other leads to a shard that does
    /// not know it.
    pub fn slot(self) -> Slot {
        let bits = u16::try_from((self.0.as_u128() >> 64) & u128::from(SLOT_COUNT - 1)).expect("twelve bits");
        Slot::new(bits).expect("twelve bits")
    }

    /// The tag of its user.
    pub fn tag(self) -> UserTag {
        UserTag::from_bits(u32::try_from((self.0.as_u128() >> 32) & 0x3fff_ffff).expect("thirty bits"))
    }

    /// The user with all bits of the hash; `None` when there is none. For an id of an earlier release it is
    /// nobody or another user. A lookup that fails there searches by slot and tag.
    pub fn user(self) -> Option<UserId> {
        let rest = u32::try_from(self.0.as_u128() & ((1 << REST_BITS) - 1)).expect("22 bits");
        UserId::of_hash(self.slot(), self.tag(), rest)
    }

    /// When it was made, in milliseconds of Unix time.
    pub fn unix_ms(self) -> i64 {
        i64::try_from((self.0.as_u128() & !REFUSAL) >> 80).expect("47 bits")
    }

    /// The smallest id of a transaction at `unix_ms`: the bound of a search by time. Past the year 6429 it is
    /// above all of them.
    pub fn first_at(unix_ms: i64) -> Self {
        let ms = u128::try_from(unix_ms.clamp(0, 1 << 47)).expect("not negative");
        Self(Uuid::from_u128(ms << 80))
    }

    /// The smallest id of all refusals, above those of all other transactions.
    pub fn first_refusal() -> Self {
        Self(Uuid::from_u128(REFUSAL))
    }

    /// This id as a refusal's.
    #[must_use]
    pub fn of_refusal(self) -> Self {
        Self(Uuid::from_u128(self.0.as_u128() | REFUSAL))
    }

    /// Whether a client can know it from us: a UUIDv8 of the RFC's variant, and not a refusal's, which no
    /// answer has.
    pub fn is_ours(self) -> bool {
        self.0.get_version_num() == 8
            && self.0.get_variant() == Variant::RFC4122
            && self < Self::first_refusal()
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Millisecond and sequence in one number, which rises from one id of a user to the next.
///
/// The time is the primary's, read under the user's lock, and the balance row keeps the last stamp. So a
/// user's ids rise on whichever node, and with any clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// The part of the sequence for a microsecond, and a step: a thousand of them nearly fill it. So a batch that
/// locks a user later in the same millisecond begins higher.
const STEP: u64 = 1 << UNUSED_BITS;

/// Above every stamp from a clock (the year 4199), and so far below the end of a `bigint` that no batch
/// reaches it.
const STAMP_MAX: u64 = 1 << 62;

impl Stamp {
    /// The first stamp of a moment: Unix time in microseconds.
    pub fn at(unix_us: i64) -> Self {
        let us = u64::try_from(unix_us).unwrap_or(0);
        let ms = (us / 1000).min(STAMP_MAX >> SEQUENCE_BITS);
        Self(((ms << SEQUENCE_BITS) + us % 1000 * STEP).min(STAMP_MAX))
    }

    /// The next stamp, also after one of an earlier release, whose steps are one. More than 1,024 in one
    /// millisecond use the next millisecond.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 | (STEP - 1)) + 1)
    }

    /// Its milliseconds of Unix time.
    pub fn unix_ms(self) -> i64 {
        i64::try_from(self.0 >> SEQUENCE_BITS).expect("STAMP_MAX leaves 46 bits")
    }

    /// Reads a balance row; `None` for a number that PicoPay never writes.
    pub fn from_ledger(last_stamp: i64) -> Option<Self> {
        u64::try_from(last_stamp).ok().filter(|stamp| *stamp <= STAMP_MAX).map(Self)
    }

    /// The number for a balance row.
    pub fn to_ledger(self) -> i64 {
        i64::try_from(self.0).expect("STAMP_MAX leaves room for every batch")
    }

    /// The id of a transaction of `user`.
    pub fn id_for(self, user: UserId) -> TransactionId {
        let (ms, sequence) = (self.0 >> SEQUENCE_BITS, self.0 & 0xffff);
        let bits = (u128::from(ms) << 80)
            | (0x8 << 76)
            | (u128::from(user.slot().get()) << 64)
            | (0b10 << 62)
            | (u128::from(user.tag().get()) << 32)
            | (u128::from(sequence >> UNUSED_BITS) << REST_BITS)
            | u128::from(user.rest_of_hash());
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
    fn an_id_carries_its_time_and_its_user() {
        let now = 1_795_435_200_123;
        for id in [1, 42, i64::MAX] {
            let made = Stamp::at(now * 1000 + 999).id_for(user(id));
            assert_eq!(made.unix_ms(), now);
            assert_eq!(made.user(), Some(user(id)));
            assert_eq!(made.slot(), user(id).slot());
            assert_eq!(made.tag(), user(id).tag());
            assert!(made.is_ours());
            assert!(made >= TransactionId::first_at(now) && made < TransactionId::first_at(now + 1));
        }
    }

    #[test]
    fn every_microsecond_begins_above_the_one_before() {
        let stamps: Vec<Stamp> = (1_795_435_200_122_000..1_795_435_200_125_000).map(Stamp::at).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1] && pair[0].next() <= pair[1]));
        assert_eq!(Stamp::at(-1), Stamp::default(), "a clock before 1970 gives the lowest");
    }

    #[test]
    fn ids_of_a_user_rise_with_their_stamps() {
        let mut stamp = Stamp::at(1_000_000_999);
        for _ in 0..3_000 {
            assert!(stamp.id_for(user(7)) < stamp.next().id_for(user(7)));
            stamp = stamp.next();
        }
    }

    #[test]
    fn an_id_comes_after_those_of_an_earlier_release_with_the_stamp_before() {
        for sequence in [0, 1, 62, 63, 64, 65_472, 65_535] {
            let before = Stamp::from_ledger((1_795_435_200_123 << 16) | sequence).unwrap();
            // All of the sequence, and the highest random bits.
            let bits = before.id_for(user(7)).as_uuid().as_u128() & !0xffff_ffff;
            let old = bits | (u128::from(before.0 & 0xffff) << 16) | 0xffff;
            let next = before.next().id_for(user(7));
            assert!(next.as_uuid() > Uuid::from_u128(old), "{sequence}");
            assert!(before.next() > before);
        }
    }

    #[test]
    fn refusals_are_apart_and_rise_among_themselves() {
        let at = |ms: i64| Stamp::at(ms * 1000).id_for(user(7));
        let (early, late) = (at(1_795_435_200_123), at(1_795_435_200_124));
        assert!(late < early.of_refusal() && early.of_refusal() < late.of_refusal());
        assert!(TransactionId::first_at(i64::MAX) <= TransactionId::first_refusal());
        assert!(late < TransactionId::first_refusal() && TransactionId::first_refusal() < early.of_refusal());
        assert_eq!((late.of_refusal().unix_ms(), late.of_refusal().user()), (late.unix_ms(), late.user()));
        assert!(late.is_ours() && !late.of_refusal().is_ours(), "no client ever sees one");
        assert_eq!(Stamp::at(i64::MAX).id_for(user(7)).of_refusal().of_refusal().unix_ms(), (1 << 46));
    }

    #[test]
    fn a_balance_row_gives_back_the_stamp_it_was_given_and_no_other() {
        for stamp in [Stamp::default(), Stamp::at(1_795_435_200_123_456), Stamp::at(i64::MAX)] {
            assert_eq!(Stamp::from_ledger(stamp.to_ledger()), Some(stamp));
        }
        for odd in [-1, i64::MIN, i64::MAX] {
            assert_eq!(Stamp::from_ledger(odd), None, "{odd}");
        }
        // A batch after the highest valid stamp still fits.
        let mut stamp = Stamp::at(i64::MAX);
        (0..4096).for_each(|_| stamp = stamp.next());
        assert!(stamp.to_ledger() > 0);
    }

    #[test]
    fn other_peoples_uuids_are_not_ours() {
        for uuid in [Uuid::nil(), Uuid::max(), Uuid::new_v4()] {
            assert!(!TransactionId::from_uuid(uuid).is_ours());
            let _ = TransactionId::from_uuid(uuid).slot();
        }
    }
}
