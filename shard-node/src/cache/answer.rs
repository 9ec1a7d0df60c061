//! One answer in Redis, and the conditions under which it counts.

use std::num::NonZeroU32;

use picopay_shared::cluster::Durability;
use picopay_shared::command::{Command, Fingerprint, Outcome, Transaction};
use picopay_shared::config::Secret;
use picopay_shared::hold::HoldPart;
use picopay_shared::session::LogPosition;
use twox_hash::XxHash3_64;
use uuid::Uuid;

use super::Whose;
use super::seal::{Scope, Sealer};
use crate::identity::Generation;
use crate::write_gate::Opening;

/// The format of an answer. It must change with [`Entry`] or anything in it, because `postcard` does not
/// describe its content.
const FORMAT: &[u8] = b"answer 3";

/// The longest answer that is read, in bytes. The longest that is kept has 4 KiB of metadata and a reference
/// of 1 KiB. Checking the code of a foreign value must be cheap, and a foreign value may have 512 MB.
const BYTES_MAX: usize = 16 * 1024;

/// An answer with its position in the log. Another node may have committed it, further on than anything that
/// this one has seen.
type Entry<T, P> = (T, P, Fingerprint, LogPosition);

/// The entries for one generation of a shard's ledger, and how they are sealed.
pub struct Places {
    cluster_id: Uuid,
    generation: Generation,
    secret: Secret,
    prefix: String,
    count: NonZeroU32,
    sealer: Sealer,
}

impl Places {
    pub fn new(whose: &Whose, opening: &Opening, secret: Secret, count: NonZeroU32) -> Self {
        // A service that promises two machines does not replay an answer that only one had.
        let durability: &[u8] = match whose.durability {
            Durability::Replicated => b"replicated",
            Durability::Local => b"local",
        };
        let Opening { cluster_id, generation, .. } = opening;
        let scope = Scope::of(&[
            FORMAT,
            cluster_id.as_bytes(),
            whose.shard.as_bytes(),
            durability,
            &generation.number.to_le_bytes(),
            generation.id.as_bytes(),
        ]);
        Self {
            cluster_id: *cluster_id,
            generation: *generation,
            prefix: scope.name(),
            count,
            sealer: Sealer::new(&secret, &scope),
            secret,
        }
    }

    pub fn are_for(&self, opening: &Opening) -> bool {
        self.cluster_id == opening.cluster_id && self.generation == opening.generation
    }

    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The number of the command's entry. The user is known by the hash that a refund's charge id also
    /// carries.
    pub fn number_of(&self, command: &Command) -> u64 {
        let mut who_and_what = [0; 22];
        who_and_what[..2].copy_from_slice(&command.operation.slot().get().to_le_bytes());
        who_and_what[2..6].copy_from_slice(&command.operation.tag().get().to_le_bytes());
        who_and_what[6..].copy_from_slice(command.idempotency_key.as_bytes());
        XxHash3_64::oneshot(&who_and_what) % u64::from(self.count.get())
    }

    pub fn name(&self, number: u64) -> String {
        format!("{}{number:x}", self.prefix)
    }

    pub fn write(
        &self,
        number: u64,
        transaction: &Transaction,
        (fingerprint, committed): (Fingerprint, LogPosition),
        bytes: &mut Vec<u8>,
    ) {
        bytes.clear();
        let entry: Entry<_, _> = (transaction, &transaction.hold_part, fingerprint, committed);
        let written = postcard::to_extend(&entry, std::mem::take(bytes));
        *bytes = written.expect("plain data always serializes");
        self.sealer.seal(&number.to_le_bytes(), bytes);
    }

    /// The answer to `command`, if these bytes count. They must be sealed by us for this entry, with the request's key and
    /// fingerprint. The answer must be committed on the open timeline, and made at `oldest` (Unix milliseconds) or later.
    pub fn read(
        &self,
        command: &Command,
        bytes: &[u8],
        timeline: u32,
        oldest: i64,
    ) -> Option<(Outcome, LogPosition)> {
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let value = self.sealer.open(&self.number_of(command).to_le_bytes(), bytes)?;
        let (mut transaction, hold_part, fingerprint, committed): Entry<Box<Transaction>, HoldPart> =
            postcard::from_bytes(value).ok()?;
        transaction.hold_part = hold_part;
        let is_answer = fingerprint == command.fingerprint
            && transaction.idempotency_key == Some(command.idempotency_key)
            // A failover may have lost what was committed on an older one.
            && committed.timeline == timeline
            && transaction.id.unix_ms() >= oldest;
        is_answer.then_some((Outcome::Decided { transaction, is_replayed: true }, committed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use picopay_shared::command::{Kind, Operation, Payment, Status};
    use picopay_shared::id::Stamp;
    use picopay_shared::internal_secret::InternalSecret;
    use picopay_shared::money::{Currency, Money};
    use picopay_shared::node_status::WIRE_VERSION;
    use picopay_shared::origin::Origin;
    use picopay_shared::slot::UserId;
    use proptest::prelude::*;

    use super::*;
    use crate::server_id::ServerId;

    const NOW: i64 = 1_795_435_200_123;
    const AT: LogPosition = LogPosition { timeline: 3, lsn: 77 };

    fn whose(shard: &str, durability: Durability) -> Whose {
        Whose {
            shard: shard.to_owned(),
            durability,
            secret: Arc::new(InternalSecret::new(&Secret::new("x"))),
        }
    }

    fn opening() -> Opening {
        Opening {
            cluster_id: Uuid::from_u128(1),
            generation: Generation { number: 1, id: Uuid::from_u128(2) },
            server: ServerId { position: 0, timeline: 3, started_us: 1 },
            durability: Durability::Replicated,
            finished: WIRE_VERSION,
            degraded: None,
        }
    }

    fn places_of(whose: &Whose, opening: &Opening, secret: &str) -> Places {
        Places::new(whose, opening, Secret::new(secret), NonZeroU32::new(1 << 18).unwrap())
    }

    fn places() -> Places {
        places_of(&whose("shard-1", Durability::Replicated), &opening(), "secret")
    }

    fn charge(user: i64, key: u128) -> Command {
        let money = Money::parse("5.00", Currency::parse("USD").unwrap()).unwrap();
        let user_id = UserId::try_from(user).unwrap();
        let operation = Operation::Charge(Payment { user_id, money, reference: None, metadata: None });
        Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: Uuid::from_u128(key),
            is_client_key: true,
            origin: Origin { request_id: "request".to_owned(), traceparent: None },
            made_by: None,
        }
    }

    fn answer(command: &Command) -> Transaction {
        let Operation::Charge(Payment { user_id, money, .. }) = command.operation else { panic!("a charge") };
        Transaction {
            id: Stamp::at(NOW * 1000).id_for(user_id),
            user_id,
            kind: Kind::Charge,
            status: Status::Completed,
            money,
            balance_after: money,
            idempotency_key: Some(command.idempotency_key),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part: HoldPart::default(),
            transfer: None,
        }
    }

    fn kept(places: &Places, command: &Command) -> Vec<u8> {
        let mut bytes = Vec::new();
        let answer = answer(command);
        places.write(places.number_of(command), &answer, (command.fingerprint, AT), &mut bytes);
        bytes
    }

    #[test]
    fn an_answer_counts_for_its_request_on_the_open_timeline_while_it_is_young() {
        let (places, command) = (places(), charge(1, 7));
        let bytes = kept(&places, &command);
        let (outcome, committed) = places.read(&command, &bytes, 3, NOW).unwrap();
        assert_eq!(committed, AT);
        let transaction = Box::new(answer(&command));
        let Outcome::Decided { transaction: found, is_replayed: true } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((found.idempotency_key, found.money), (transaction.idempotency_key, transaction.money));

        assert!(places.read(&command, &bytes, 2, NOW).is_none(), "of a timeline to come");
        assert!(places.read(&command, &bytes, 4, NOW).is_none(), "of a timeline that is over");
        assert!(places.read(&command, &bytes, 3, NOW + 1).is_none(), "too old");
        assert!(
            places.read(&command, &bytes, 3, i64::MAX).is_none()
                && places.read(&command, &bytes, 3, i64::MIN).is_some()
        );
    }

    #[test]
    fn an_answer_counts_at_its_own_place_alone() {
        let (places, command) = (places(), charge(1, 7));
        let bytes = kept(&places, &command);
        // A forger put this into the entry of another request, with the key changed or not.
        assert!(places.read(&charge(1, 8), &bytes, 3, NOW).is_none());
        assert!(places.read(&charge(2, 7), &bytes, 3, NOW).is_none());
        let one_place = Places { count: NonZeroU32::MIN, ..places };
        let bytes = kept(&one_place, &command);
        assert!(one_place.read(&command, &bytes, 3, NOW).is_some());
        for other in [charge(1, 8), charge(2, 7)] {
            assert!(one_place.read(&other, &bytes, 3, NOW).is_none(), "another request in the same place");
        }
    }

    #[test]
    fn an_answer_counts_in_its_own_scope_alone() {
        let ours = whose("shard-1", Durability::Replicated);
        let command = charge(1, 7);
        let bytes = kept(&places(), &command);
        let generation = |number, id| Generation { number, id: Uuid::from_u128(id) };
        let mut names = vec![places().name(0)];
        for (what, other) in [
            ("shard", places_of(&whose("shard-2", Durability::Replicated), &opening(), "secret")),
            ("durability", places_of(&whose("shard-1", Durability::Local), &opening(), "secret")),
            ("cluster", places_of(&ours, &Opening { cluster_id: Uuid::nil(), ..opening() }, "secret")),
            (
                "generation",
                places_of(&ours, &Opening { generation: generation(2, 3), ..opening() }, "secret"),
            ),
            (
                "second restoration of one backup",
                places_of(&ours, &Opening { generation: generation(1, 3), ..opening() }, "secret"),
            ),
        ] {
            assert!(other.read(&command, &bytes, 3, NOW).is_none(), "another {what}");
            names.push(other.name(0));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 6, "each has a place of its own too");
        let other_secret = places_of(&ours, &opening(), "Secret");
        assert!(other_secret.read(&command, &bytes, 3, NOW).is_none(), "another secret");
        // A degraded shard replays what it answered before.
        let degraded = Opening { durability: Durability::Local, ..opening() };
        assert!(places_of(&ours, &degraded, "secret").read(&command, &bytes, 3, NOW).is_some());
    }

    #[test]
    fn an_answer_of_another_format_is_nothing_although_we_sealed_it() {
        let (places, command) = (places(), charge(1, 7));
        let number = places.number_of(&command).to_le_bytes();
        let whole = kept(&places, &command);
        let value = places.sealer.open(&number, &whole).unwrap();
        for length in 0..value.len() {
            let mut cut = value[..length].to_vec();
            places.sealer.seal(&number, &mut cut);
            assert!(places.read(&command, &cut, 3, NOW).is_none(), "{length} bytes");
        }
        // Lengths beyond the end, up to 2^64 - 1.
        for length in 0..value.len() {
            let mut huge = [&value[..length], &[0xff; 9], &[0x01]].concat();
            places.sealer.seal(&number, &mut huge);
            let _ = places.read(&command, &huge, 3, NOW);
        }
        let mut long = vec![0; BYTES_MAX];
        places.sealer.seal(&number, &mut long);
        assert!(places.read(&command, &long, 3, NOW).is_none());
    }

    proptest! {
        /// Also bytes that we sealed: an older program may have sealed something else under this format by
        /// mistake.
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (places, command) = (places(), charge(1, 7));
            prop_assert!(places.read(&command, &bytes, 3, NOW).is_none());
            places.sealer.seal(&places.number_of(&command).to_le_bytes(), &mut bytes);
            prop_assert!(places.read(&command, &bytes, 3, NOW).is_none());
        }

        #[test]
        fn no_change_of_bytes_that_are_sealed_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
        ) {
            let (places, command) = (places(), charge(1, 7));
            let number = places.number_of(&command).to_le_bytes();
            let whole = kept(&places, &command);
            let mut value = places.sealer.open(&number, &whole).unwrap().to_vec();
            for (position, byte) in changes {
                let position = position.index(value.len());
                value[position] = byte;
            }
            places.sealer.seal(&number, &mut value);
            let _ = places.read(&command, &value, 3, i64::MIN);
        }
    }
}
