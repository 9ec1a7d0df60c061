//! Users, and the slot that each of them hashes to.
//!
//! The hash is fixed for the life of a cluster: a changed bit would look for everybody's money in the wrong
//! shard. The golden vectors below come from another implementation of XXH3.

use std::fmt;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// Slots of a cluster. Twelve bits, so that a transaction id can carry its slot.
pub const SLOT_COUNT: u16 = 4096;

/// The name under which every shard database records the hash, checked when a service starts.
pub const SLOT_HASH: &str = "xxh3-64-le-seed0-mod4096";

/// The advisory lock of the fence, one per shard database. Every write takes it shared, a change of owner
/// exclusive. "pico" and "fnce" in ASCII.
pub const FENCE_LOCK: i64 = 0x7069_636f_666e_6365;

const SLOT_BITS: u32 = 12;
const TAG_BITS: u32 = 30;

/// XXH3's key for inputs of eight bytes: bytes 8 to 24 of its default secret, as two numbers, combined.
/// <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>, "XXH3 Algorithm Overview", 4-8 bytes.
const HASH_KEY: u64 = 0x1cad_21f7_2c81_017c ^ 0xdb97_9083_e96d_d4de;
/// `PRIME_MX2` of that document.
const HASH_PRIME: u64 = 0x9fb2_1c65_1e98_df25;
/// The inverse of `HASH_PRIME`, modulo 2^64.
const HASH_PRIME_INVERSE: u64 = inverse(HASH_PRIME);

/// A number that is no user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user_id is an integer from 1 to 9223372036854775807")]
pub struct UserIdError;

/// The id of a user: 1 … 2^63−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct UserId(i64);

impl UserId {
    /// The number, as Postgres and JSON have it.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The slot of the user's rows.
    pub fn slot(self) -> Slot {
        let bits = self.hash() & (u64::from(SLOT_COUNT) - 1);
        Slot(u16::try_from(bits).expect("twelve bits"))
    }

    /// The next bits of the same hash. A transaction id carries them, so that an index on `users` finds its
    /// user and the transactions need no third index.
    pub fn tag(self) -> UserTag {
        let bits = (self.hash() >> SLOT_BITS) & ((1 << TAG_BITS) - 1);
        UserTag(u32::try_from(bits).expect("thirty bits"))
    }

    /// The remaining bits of the hash. All of it together leads back to the user.
    pub(crate) fn rest_of_hash(self) -> u32 {
        u32::try_from(self.hash() >> (SLOT_BITS + TAG_BITS)).expect("22 bits")
    }

    /// The user with this hash, if there can be one. XXH3 is a bijection of eight bytes; its steps are
    /// inverted here.
    pub(crate) fn of_hash(slot: Slot, tag: UserTag, rest: u32) -> Option<Self> {
        let (tag, rest) = (u64::from(tag.0), u64::from(rest));
        let mut hash = u64::from(slot.0) | (tag << SLOT_BITS) | (rest << (SLOT_BITS + TAG_BITS));
        hash = unshift(hash, 28, 0);
        hash = hash.wrapping_mul(HASH_PRIME_INVERSE);
        // The length of the input.
        hash = unshift(hash, 35, 8);
        hash = hash.wrapping_mul(HASH_PRIME_INVERSE);
        // `h ^ rotl(h, 49) ^ rotl(h, 24)` is a polynomial in the rotation by one. Its 64th power is the
        // identity, since that of each rotation is. So its 63rd power inverts it: one, two, four … 32 times.
        let times =
            |hash: u64, by: u32| hash ^ hash.rotate_left(49 * by % 64) ^ hash.rotate_left(24 * by % 64);
        for by in [1, 2, 4, 8, 16, 32] {
            hash = times(hash, by);
        }
        hash ^= HASH_KEY;
        // The two halves of the input are swapped in it.
        let id = i64::from_le_bytes(hash.rotate_left(32).to_le_bytes());
        Self::try_from(id).ok()
    }

    fn hash(self) -> u64 {
        XxHash3_64::oneshot(&self.0.to_le_bytes())
    }
}

/// Inverts `h ^ ((h >> by) + more)`: the highest bits are unchanged, and give those below them.
fn unshift(hash: u64, by: u32, more: u64) -> u64 {
    let mut found = hash;
    for _ in 0..64 / by {
        found = hash ^ ((found >> by) + more);
    }
    found
}

/// By Newton's method: each step doubles the bits that are right, and the number itself has three.
const fn inverse(odd: u64) -> u64 {
    let mut found = odd;
    let mut step = 0;
    while step < 5 {
        found = found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found)));
        step += 1;
    }
    found
}

impl TryFrom<i64> for UserId {
    type Error = UserIdError;

    fn try_from(id: i64) -> Result<Self, UserIdError> {
        if id >= 1 { Ok(Self(id)) } else { Err(UserIdError) }
    }
}

impl From<UserId> for i64 {
    fn from(user: UserId) -> i64 {
        user.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Thirty bits of a user's hash, next to those of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserTag(u32);

impl UserTag {
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << TAG_BITS) - 1))
    }

    /// The bits, as an id carries them.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The bits, as Postgres keeps them.
    pub fn as_i32(self) -> i32 {
        i32::try_from(self.0).expect("thirty bits")
    }
}

/// A number that is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a slot is a number from 0 to 4095")]
pub struct SlotError;

/// One of the 4096 parts of a cluster; each is owned by at most one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, if there is one.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// The number, 0 … 4095.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The index into a table of all slots.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The number as Postgres keeps it (`smallint`).
    pub fn as_i16(self) -> i16 {
        i16::try_from(self.0).expect("below 4096")
    }
}

impl TryFrom<u16> for Slot {
    type Error = SlotError;

    fn try_from(number: u16) -> Result<Self, SlotError> {
        Self::new(number).ok_or(SlotError)
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_hash_to_the_slots_they_always_had() {
        for (id, slot, tag) in [
            (1, 2350, 324_423_095),
            (2, 579, 633_937_646),
            (3, 3709, 43_786_050),
            (42, 1992, 209_948_146),
            (1000, 1421, 588_194_674),
            (4096, 1712, 82_871_541),
            (123_456_789, 2773, 725_891_318),
            (1 << 32, 2651, 492_425_036),
            ((1 << 53) + 1, 3280, 339_392_925),
            (i64::MAX, 3910, 863_393_165),
        ] {
            let user = UserId::try_from(id).unwrap();
            assert_eq!((user.slot().get(), user.tag().get()), (slot, tag), "user {id}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_hash_leads_back_to_its_user(id in 1_i64..) {
            let user = UserId::try_from(id).unwrap();
            proptest::prop_assert_eq!(UserId::of_hash(user.slot(), user.tag(), user.rest_of_hash()), Some(user));
        }

        #[test]
        fn a_hash_of_no_user_leads_to_nobody(id in i64::MIN..1) {
            let user = UserId(id);
            proptest::prop_assert_eq!(UserId::of_hash(user.slot(), user.tag(), user.rest_of_hash()), None);
        }
    }

    #[test]
    fn a_slot_beyond_the_last_is_refused_on_the_wire_too() {
        let wire = |number: u16| postcard::from_bytes::<Slot>(&postcard::to_stdvec(&number).unwrap());
        assert_eq!(wire(4095).unwrap().get(), 4095);
        assert!(wire(4096).is_err());
    }

    #[test]
    fn only_positive_numbers_are_users() {
        for id in [0, -1, i64::MIN] {
            assert_eq!(UserId::try_from(id), Err(UserIdError));
        }
    }
}
