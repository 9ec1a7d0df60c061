//! Authentication of values in Redis: a code that needs the cluster's internal secret.
//!
//! Each scope has its own key, made of the secret and the scope. So a value that is moved to another shard,
//! generation or format is not valid. Within a scope the code covers the entry's name.

use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use picopay_shared::config::Secret;
use sha2::{Digest, Sha256};

/// The bytes of a code: half of HMAC-SHA-256, as RFC 2104, section 5, recommends (half of the hash, and no
/// less than 80 bits). Without the key, one in 2^128 guesses is right, and each guess needs a lookup.
const CODE: usize = 16;

/// The owner and purpose of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Vec<u8>);

impl Scope {
    /// Each field with its length, so that no two scopes are equal by concatenation.
    pub fn of(fields: &[&[u8]]) -> Self {
        let mut text = Vec::new();
        for field in fields {
            add_with_length(&mut text, field);
        }
        Self(text)
    }

    /// The prefix of all names: the hash of the scope, because short names are a third faster. The braces put
    /// a scope into one slot of a Redis Cluster, as `MSET` needs.
    pub fn name(&self) -> String {
        let mut name = "{picopay:".to_owned();
        for byte in &Sha256::digest(&self.0)[..8] {
            write!(name, "{byte:02x}").expect("a string takes all");
        }
        name + "}:"
    }
}

#[derive(Clone)]
pub struct Sealer {
    /// Already keyed: a copy is cheaper than keying again for each value.
    keyed: Hmac<Sha256>,
}

impl Sealer {
    pub fn new(secret: &Secret, scope: &Scope) -> Self {
        let key = keyed_with(secret.expose().as_bytes()).chain_update(&scope.0).finalize().into_bytes();
        Self { keyed: keyed_with(&key) }
    }

    pub fn seal(&self, place: &[u8], value: &mut Vec<u8>) {
        let code = self.code_of(place, value).finalize().into_bytes();
        value.extend_from_slice(&code[..CODE]);
    }

    /// The value, if it was sealed with this secret for this place; otherwise `None`, whatever the bytes are.
    pub fn open<'a>(&self, place: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (value, code) = sealed.split_last_chunk::<CODE>()?;
        self.code_of(place, value).verify_truncated_left(code).ok()?;
        Some(value)
    }

    fn code_of(&self, place: &[u8], value: &[u8]) -> Hmac<Sha256> {
        let mut code = self.keyed.clone();
        code.update(&length_of(place));
        code.update(place);
        code.update(value);
        code
    }
}

fn keyed_with(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

fn add_with_length(to: &mut Vec<u8>, field: &[u8]) {
    to.extend_from_slice(&length_of(field));
    to.extend_from_slice(field);
}

fn length_of(field: &[u8]) -> [u8; 8] {
    u64::try_from(field.len()).expect("a length fits 64 bits").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(secret: &str, fields: &[&[u8]]) -> Sealer {
        Sealer::new(&Secret::new(secret), &Scope::of(fields))
    }

    fn sealed(by: &Sealer, place: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = value.to_vec();
        by.seal(place, &mut bytes);
        bytes
    }

    #[test]
    fn a_value_opens_with_its_secret_in_its_scope_at_its_place_and_nowhere_else() {
        let ours = sealer("secret", &[b"format", b"shard-1"]);
        let bytes = sealed(&ours, b"place", b"value");
        assert_eq!(ours.open(b"place", &bytes), Some(b"value".as_slice()));
        for (other, place) in [
            (&ours, b"other".as_slice()),
            (&ours, b"plac"),
            (&ours, b"placev"),
            (&sealer("Secret", &[b"format", b"shard-1"]), b"place"),
            (&sealer("", &[b"format", b"shard-1"]), b"place"),
            (&sealer("secret", &[b"format", b"shard-2"]), b"place"),
            (&sealer("secret", &[b"formats", b"hard-1"]), b"place"),
            (&sealer("secret", &[b"format"]), b"place"),
        ] {
            assert_eq!(other.open(place, &bytes), None, "{}", String::from_utf8_lossy(place));
        }
        // The border between place and value is unambiguous.
        assert_eq!(ours.open(b"plac", &[b"e", bytes.as_slice()].concat()), None);
    }

    #[test]
    fn one_bit_is_enough_to_be_nothing_and_so_is_any_part() {
        let ours = sealer("secret", &[b"scope"]);
        let bytes = sealed(&ours, b"place", b"some value");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ours.open(b"place", &flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(ours.open(b"place", &bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(ours.open(b"place", &[bytes.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn names_never_change_between_versions() {
        assert_eq!(Scope::of(&[b"format", b"shard-1"]).name(), "{picopay:89ff482f51ee8cb8}:");
    }

    proptest! {
        #[test]
        fn random_bytes_are_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(sealer("secret", &[b"scope"]).open(b"place", &bytes), None);
        }
    }
}
