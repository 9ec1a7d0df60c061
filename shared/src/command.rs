//! Writes between gateway and shard node: commands and their outcomes.
//!
//! These types cross the wire in `postcard`, which does not describe itself. A change to any of them changes
//! [`WRITE_PATH`], so that an old and a new program never misread each other. What is only added comes behind the rest, where an
//! older program does not read on.

use std::borrow::Borrow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::id::TransactionId;
use crate::money::{Amount, Money};
use crate::node_status::{HOLDS, TRANSFERS, WIRE_BEFORE_HOLDS};
use crate::origin::Origin;
pub use crate::outcome::{Moved, Outcome, WriteReply};
use crate::slot::{Slot, UserId, UserTag};
pub use crate::transaction::{Kind, Refusal, Status, Transaction};
use crate::transfer::{Credit, Credited, Transfer};

/// The path where a node takes a [`WriteBatch`] and answers with a [`WriteReply`].
pub const WRITE_PATH: &str = "/internal/v2/write";

/// Most commands in one [`WriteBatch`]. A gateway never forms more; a node refuses more.
pub const WRITE_BATCH_MAX: usize = 512;

/// Several clients' commands in one request, in the order of arrival. [`WriteBatch::to_wire`] writes it, and
/// [`WriteBatch::from_wire`] reads it. With `C`, the sender can share the commands with the waiting callers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(serialize = "C: Borrow<Command>", deserialize = "C: From<Command>"))]
pub struct WriteBatch<C = Command> {
    /// How many milliseconds the gateway still waits. A node starts nothing that it cannot finish in this
    /// time.
    pub deadline_ms: u32,
    /// At most [`WRITE_BATCH_MAX`] of them.
    pub attempts: Vec<Attempt<C>>,
}

impl<C: Borrow<Command>> WriteBatch<C> {
    /// Encodes the batch. The API keys' names follow behind all commands, each name once, so that an older
    /// program does not read them.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut names: Vec<&str> = Vec::new();
        let makers: Vec<Option<usize>> = (self.attempts.iter())
            .map(|attempt| {
                let name = attempt.command.borrow().made_by.as_deref()?;
                Some(names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                }))
            })
            .collect();
        postcard::to_stdvec(&(self, names, makers)).expect("plain data always serializes")
    }
}

impl WriteBatch {
    /// Decodes the batch, with or without names.
    ///
    /// # Errors
    /// When the bytes are no batch, or the names do not fit the commands.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (mut batch, rest): (Self, &[u8]) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            return Ok(batch);
        }
        let (names, makers): (Vec<String>, Vec<Option<usize>>) = postcard::from_bytes(rest)?;
        let names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        if makers.len() != batch.attempts.len() {
            return Err(postcard::Error::SerdeDeCustom);
        }
        for (attempt, maker) in batch.attempts.iter_mut().zip(makers) {
            let name =
                maker.map(|maker| names.get(maker).ok_or(postcard::Error::SerdeDeCustom)).transpose()?;
            attempt.command.made_by = name.cloned();
        }
        Ok(batch)
    }
}

/// One attempt to have a command decided. Another attempt may go to another shard, at another epoch, with the
/// same command.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt<C = Command> {
    /// The command to be decided.
    pub command: C,
    /// The epoch at which the gateway believes that this shard owns the slot. On the wire it is among the
    /// command's fields.
    pub epoch: u64,
}

/// An [`Attempt`] as it is written to the wire.
#[derive(Serialize)]
#[serde(rename = "Command")]
struct SentAttempt<'a> {
    operation: &'a Operation,
    idempotency_key: Uuid,
    is_client_key: bool,
    fingerprint: Fingerprint,
    epoch: u64,
    origin: &'a Origin,
}

/// An [`Attempt`] as it is read from the wire.
#[derive(Deserialize)]
#[serde(rename = "Command")]
struct ReceivedAttempt {
    operation: Operation,
    idempotency_key: Uuid,
    is_client_key: bool,
    fingerprint: Fingerprint,
    epoch: u64,
    origin: Origin,
}

impl<C: Borrow<Command>> Serialize for Attempt<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Command { operation, idempotency_key, is_client_key, fingerprint, origin, made_by: _ } =
            self.command.borrow();
        let sent = SentAttempt {
            operation,
            idempotency_key: *idempotency_key,
            is_client_key: *is_client_key,
            fingerprint: *fingerprint,
            epoch: self.epoch,
            origin,
        };
        sent.serialize(serializer)
    }
}

impl<'de, C: From<Command>> Deserialize<'de> for Attempt<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ReceivedAttempt { operation, idempotency_key, is_client_key, fingerprint, epoch, origin } =
            ReceivedAttempt::deserialize(deserializer)?;
        let command =
            Command { operation, idempotency_key, is_client_key, fingerprint, origin, made_by: None };
        Ok(Self { command: command.into(), epoch })
    }
}

/// One client's operation. It stays the same in every attempt; an [`Attempt`] crosses the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The operation to be done.
    pub operation: Operation,
    /// The client's idempotency key, or one that the gateway made for its own retries.
    pub idempotency_key: Uuid,
    /// Whether the client sent the key. An answer under a key that nobody knows is not cached.
    pub is_client_key: bool,
    /// The hash of what the client asked for ([`Operation::fingerprint`]).
    pub fingerprint: Fingerprint,
    /// The client's request. A refusal records its id, because its body names it.
    pub origin: Origin,
    /// The name of the API key. It crosses the wire behind the commands ([`WriteBatch::to_wire`]).
    pub made_by: Option<Arc<str>>,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Operation {
    /// Creates a user, who has no balance yet.
    CreateUser {
        /// The id of the new user.
        user_id: UserId,
    },
    /// Adds money to a balance.
    TopUp(Payment),
    /// Takes money for a service.
    Charge(Payment),
    /// Gives money back, up to the charge.
    Refund {
        /// The charge to refund.
        charge_id: TransactionId,
        /// The amount; `None` means all that remains.
        amount: Option<Amount>,
    },
    /// Reserves money for a charge to come.
    Hold {
        /// The user, the amount, and what goes with it.
        payment: Payment,
        /// For how many seconds ([`crate::hold::EXPIRES_IN_S`]).
        expires_in_s: u32,
    },
    /// Charges all or a part of a hold, and frees the rest.
    Capture {
        /// The hold to capture.
        hold_id: TransactionId,
        /// The amount; `None` means all of it.
        amount: Option<Amount>,
    },
    /// Frees what a hold reserves.
    Void {
        /// The hold to void.
        hold_id: TransactionId,
    },
    /// The first step of a transfer: takes its money from the sender. Its answer is [`Outcome::Transferred`], or as for a
    /// charge.
    Transfer {
        /// The sender, the amount, and what goes with it.
        payment: Payment,
        /// The recipient, who is not the sender.
        to_user_id: UserId,
        /// Set when the recipient is known not to exist. A key that was used before is answered as ever, and a new one with
        /// [`Outcome::UserNotFound`]: nothing is done then, and nothing recorded.
        only_replays: bool,
    },
    /// The second step: gives the money to the recipient. It has no key; its answer is [`Outcome::Credited`].
    Credit(Box<Credit>),
    /// The third step: ends the transfer, as the recipient's shard has decided. It has no key; its answer is
    /// [`Outcome::Transferred`].
    Settle {
        /// The transfer to end.
        transfer_id: TransactionId,
        /// What the recipient's shard has answered.
        credited: Credited,
    },
    /// Writes down which of a user's holds have run out. A node asks this of itself only.
    #[serde(skip)]
    Sweep {
        /// The user whose holds are looked at.
        user_id: UserId,
    },
}

/// The fields that a top-up, a charge, a hold and a transfer share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// The user whose balance changes.
    pub user_id: UserId,
    /// The amount and its currency.
    pub money: Money,
    /// The client's own reference, at most 255 characters.
    pub reference: Option<String>,
    /// The client's own JSON object, as the gateway's canonical text.
    pub metadata: Option<String>,
}

impl Operation {
    /// The slot whose owner decides.
    pub fn slot(&self) -> Slot {
        match self {
            Self::CreateUser { user_id } | Self::Sweep { user_id } => user_id.slot(),
            Self::TopUp(payment)
            | Self::Charge(payment)
            | Self::Hold { payment, .. }
            | Self::Transfer { payment, .. } => payment.user_id.slot(),
            Self::Credit(credit) => credit.to_user_id.slot(),
            Self::Settle { transfer_id, .. } => transfer_id.slot(),
            Self::Refund { charge_id, .. } => charge_id.slot(),
            Self::Capture { hold_id, .. } | Self::Void { hold_id } => hold_id.slot(),
        }
    }

    /// The user's tag. It is equal for all operations of one user, so it picks the user's lane.
    pub fn tag(&self) -> UserTag {
        match self {
            Self::CreateUser { user_id } | Self::Sweep { user_id } => user_id.tag(),
            Self::TopUp(payment)
            | Self::Charge(payment)
            | Self::Hold { payment, .. }
            | Self::Transfer { payment, .. } => payment.user_id.tag(),
            Self::Credit(credit) => credit.to_user_id.tag(),
            Self::Settle { transfer_id, .. } => transfer_id.tag(),
            Self::Refund { charge_id, .. } => charge_id.tag(),
            Self::Capture { hold_id, .. } | Self::Void { hold_id } => hold_id.tag(),
        }
    }

    /// The version of the wire from which on programs can read it, and what it leaves behind. It waits until none is left
    /// that speaks an older one.
    pub fn wire_version(&self) -> u16 {
        match self {
            Self::CreateUser { .. }
            | Self::TopUp(_)
            | Self::Charge(_)
            | Self::Refund { .. }
            | Self::Sweep { .. } => WIRE_BEFORE_HOLDS,
            Self::Hold { .. } | Self::Capture { .. } | Self::Void { .. } => HOLDS,
            Self::Transfer { .. } | Self::Credit(_) | Self::Settle { .. } => TRANSFERS,
        }
    }

    /// What it is a step of, in a sentence about why it waits.
    pub fn name_of_step(&self) -> &'static str {
        match self {
            Self::Transfer { .. } | Self::Credit(_) | Self::Settle { .. } => "a step of a transfer",
            _ => "a step of a hold",
        }
    }

    /// The hash of what the client asked for: the operation and its parsed values, never a value that a
    /// server made. Each field is written with its length, so that no two requests have the same text.
    pub fn fingerprint(&self) -> Fingerprint {
        fn field(hash: &mut Sha256, bytes: &[u8]) {
            hash.update(u64::try_from(bytes.len()).expect("a length fits 64 bits").to_le_bytes());
            hash.update(bytes);
        }
        fn optional(hash: &mut Sha256, text: Option<&str>) {
            hash.update([u8::from(text.is_some())]);
            field(hash, text.unwrap_or_default().as_bytes());
        }
        fn of_payment(hash: &mut Sha256, operation: [u8; 4], payment: &Payment) {
            hash.update(operation);
            hash.update(payment.user_id.get().to_le_bytes());
            field(hash, payment.money.currency().code().as_bytes());
            hash.update(payment.money.amount().mantissa().to_le_bytes());
            optional(hash, payment.reference.as_deref());
            optional(hash, payment.metadata.as_deref());
        }
        let mut hash = Sha256::new();
        match self {
            Self::Sweep { .. } => hash.update(b"swee"),
            // Whether the recipient exists is nothing that the client asked for.
            Self::Transfer { payment, to_user_id, only_replays: _ } => {
                of_payment(&mut hash, *b"tran", payment);
                hash.update(to_user_id.get().to_le_bytes());
            }
            // The transfer is their key.
            Self::Credit(credit) => {
                hash.update(b"cred");
                hash.update(credit.transfer_id.as_uuid().as_bytes());
            }
            Self::Settle { transfer_id, .. } => {
                hash.update(b"sett");
                hash.update(transfer_id.as_uuid().as_bytes());
            }
            Self::CreateUser { user_id } => {
                hash.update(b"user");
                hash.update(user_id.get().to_le_bytes());
            }
            Self::TopUp(payment) => of_payment(&mut hash, *b"topu", payment),
            Self::Charge(payment) => of_payment(&mut hash, *b"char", payment),
            Self::Hold { payment, expires_in_s } => {
                of_payment(&mut hash, *b"hold", payment);
                hash.update(expires_in_s.to_le_bytes());
            }
            Self::Capture { hold_id, amount } => {
                hash.update(b"capt");
                hash.update(hold_id.as_uuid().as_bytes());
                optional(&mut hash, amount.map(|amount| amount.normalized().to_string()).as_deref());
            }
            Self::Void { hold_id } => {
                hash.update(b"void");
                hash.update(hold_id.as_uuid().as_bytes());
            }
            Self::Refund { charge_id, amount } => {
                hash.update(b"refu");
                hash.update(charge_id.as_uuid().as_bytes());
                optional(&mut hash, amount.map(|amount| amount.normalized().to_string()).as_deref());
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&digest[..16]);
        Fingerprint(fingerprint)
    }
}

/// The first 128 bits of a SHA-256 over what the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 16]);

/// What comes after a transfer's first step.
impl Transfer {
    /// The second step: the command for the recipient's shard.
    pub fn credit(&self) -> Operation {
        Operation::Credit(Box::new(Credit {
            transfer_id: self.id,
            from_user_id: self.from_user_id,
            to_user_id: self.to_user_id,
            money: self.money,
            reference: self.reference.clone(),
            metadata: self.metadata.clone(),
        }))
    }

    /// The third step: the command for the sender's shard, with the answer of the recipient's.
    pub fn settle(&self, credited: Credited) -> Operation {
        Operation::Settle { transfer_id: self.id, credited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::HoldPart;
    use crate::money::Currency;

    #[test]
    fn who_asks_crosses_the_wire_and_is_no_hindrance_to_who_does_not_know_of_it() {
        let attempt = |made_by: Option<&str>| Attempt { command: command(made_by), epoch: 1 };
        let attempts =
            vec![attempt(Some("shop")), attempt(None), attempt(Some("app")), attempt(Some("shop"))];
        let batch = WriteBatch { deadline_ms: 7, attempts: attempts.clone() };
        let wire = batch.to_wire();
        assert_eq!(WriteBatch::from_wire(&wire).unwrap().attempts, attempts);
        assert_eq!(wire.windows(4).filter(|bytes| *bytes == b"shop").count(), 1, "each name once");

        let nameless: Vec<Attempt> = vec![attempt(None); 4];
        // An older node reads what it knows, and a newer node reads an older gateway's batch.
        assert_eq!(postcard::from_bytes::<WriteBatch>(&wire).unwrap().attempts, nameless);
        let old_wire = postcard::to_stdvec(&batch).unwrap();
        assert_eq!(WriteBatch::from_wire(&old_wire).unwrap().attempts, nameless);

        let behind = |makers: (Vec<&str>, Vec<Option<usize>>)| {
            let bytes = [old_wire.clone(), postcard::to_stdvec(&makers).unwrap()].concat();
            WriteBatch::from_wire(&bytes).map(|batch| batch.attempts.len()).ok()
        };
        assert_eq!(behind((vec!["a"], vec![Some(0); 4])), Some(4));
        assert_eq!(behind((vec!["a"], vec![Some(0); 3])), None, "one too few");
        assert_eq!(behind((vec!["a"], vec![Some(1); 4])), None, "a name that is not there");
        assert!(WriteBatch::from_wire(&wire[..wire.len() - 1]).is_err());
    }

    #[test]
    fn an_attempt_crosses_the_wire_in_the_layout_of_its_path_whoever_shares_the_command() {
        // The layout of `/internal/v2/write` since its first release: the epoch is among the fields of the
        // command.
        #[derive(Serialize)]
        struct OldCommand {
            operation: Operation,
            idempotency_key: Uuid,
            is_client_key: bool,
            fingerprint: Fingerprint,
            epoch: u64,
            request_id: String,
            traceparent: Option<String>,
        }
        let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        let command =
            Command { origin: Origin { request_id: "r".into(), traceparent }, ..command(Some("shop")) };
        let old = OldCommand {
            operation: command.operation.clone(),
            idempotency_key: command.idempotency_key,
            is_client_key: command.is_client_key,
            fingerprint: command.fingerprint,
            epoch: 300,
            request_id: command.origin.request_id.clone(),
            traceparent: command.origin.traceparent.clone(),
        };
        let old =
            postcard::to_stdvec(&((7_u32, vec![old]), ["shop"].as_slice(), vec![Some(0_usize)])).unwrap();
        let shared = Attempt { command: Arc::new(command.clone()), epoch: 300 };
        assert_eq!(WriteBatch { deadline_ms: 7, attempts: vec![shared] }.to_wire(), old);
        let read = WriteBatch::from_wire(&old).unwrap();
        assert_eq!((read.deadline_ms, read.attempts), (7, vec![Attempt { command, epoch: 300 }]));
    }

    #[test]
    fn what_is_said_of_a_hold_crosses_the_wire_and_is_no_hindrance_to_who_does_not_know_of_it() {
        let money = payment("5", "USD").money;
        let user_id = UserId::try_from(1).unwrap();
        let decided = |hold_part: HoldPart| {
            let transaction = Transaction {
                id: TransactionId::first_at(7),
                user_id,
                kind: Kind::Charge,
                status: Status::Completed,
                money,
                balance_after: money,
                idempotency_key: Some(Uuid::from_u128(9)),
                charge_id: None,
                reference: None,
                metadata: None,
                made_by: None,
                hold_part,
                transfer: None,
            };
            Outcome::Decided { transaction: Box::new(transaction), is_replayed: false }
        };
        let reply = |outcomes| WriteReply { outcomes, cache_hits: 1, commit_us: 2, position: None };
        let hold_id = Some(TransactionId::first_at(3));
        let part = HoldPart { hold_id, available: Some(money), ..HoldPart::default() };
        let none = HoldPart::default;
        let sent = reply(vec![decided(none()), Outcome::UserCreated, decided(part)]);
        let wire = sent.to_wire();
        assert_eq!(WriteReply::from_wire(&wire).unwrap().outcomes, sent.outcomes);
        let to_older = reply(vec![decided(none()), Outcome::UserCreated, decided(none())]);
        let read_by_older = postcard::from_bytes::<WriteReply>(&wire).unwrap();
        assert_eq!(read_by_older.outcomes, to_older.outcomes);
        let from_older = postcard::to_stdvec(&sent).unwrap();
        assert_eq!(WriteReply::from_wire(&from_older).unwrap().outcomes, to_older.outcomes);
        assert_eq!(to_older.to_wire().len(), from_older.len() + 1, "who uses no holds pays a byte for all");
        // The nil UUID stands for no key, and takes as much room.
        let without_key = |mut outcome: Outcome| {
            let Outcome::Decided { transaction, .. } = &mut outcome else { panic!("{outcome:?}") };
            transaction.idempotency_key = None;
            outcome
        };
        let keyless = reply(vec![without_key(decided(none()))]);
        assert_eq!(WriteReply::from_wire(&keyless.to_wire()).unwrap().outcomes, keyless.outcomes);
        let parts = |position: u32| {
            let parts = vec![(position, HoldPart { hold_id, ..none() })];
            WriteReply::from_wire(&[from_older.clone(), postcard::to_stdvec(&parts).unwrap()].concat())
                .is_ok()
        };
        assert!(parts(0) && !parts(1) && !parts(3), "only what was decided says something of a hold");
    }

    fn command(made_by: Option<&str>) -> Command {
        let operation = Operation::Charge(payment("1", "USD"));
        Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: Uuid::nil(),
            is_client_key: true,
            origin: Origin { request_id: "request".into(), traceparent: None },
            made_by: made_by.map(Arc::from),
        }
    }

    fn payment(text: &str, code: &str) -> Payment {
        let money = Money::parse(text, Currency::parse(code).unwrap()).unwrap();
        Payment { user_id: UserId::try_from(1).unwrap(), money, reference: None, metadata: None }
    }

    #[test]
    fn equal_requests_have_equal_fingerprints_and_others_do_not() {
        let base = Operation::Charge(payment("100.0", "USD"));
        assert_eq!(base.fingerprint(), Operation::Charge(payment("100.00", "USD")).fingerprint());
        let id = TransactionId::from_uuid(Uuid::from_u128(7));
        let amount = |text| Some(Amount::parse(text).unwrap());
        let refund = |amount| Operation::Refund { charge_id: id, amount };
        let hold = |expires_in_s| Operation::Hold { payment: payment("100", "USD"), expires_in_s };
        let capture = |amount| Operation::Capture { hold_id: id, amount };
        let transfer = |to: i64| Operation::Transfer {
            payment: payment("100", "USD"),
            to_user_id: UserId::try_from(to).unwrap(),
            only_replays: false,
        };
        assert_eq!(refund(amount("1.0")).fingerprint(), refund(amount("1.00")).fingerprint());
        let all = [
            base,
            Operation::TopUp(payment("100", "USD")),
            Operation::Charge(payment("100", "EUR")),
            Operation::Charge(payment("100.01", "USD")),
            Operation::Charge(Payment { reference: Some(String::new()), ..payment("100", "USD") }),
            Operation::Charge(Payment { reference: Some("{}".into()), ..payment("100", "USD") }),
            Operation::Charge(Payment { metadata: Some("{}".into()), ..payment("100", "USD") }),
            refund(None),
            refund(amount("1")),
            hold(60),
            hold(61),
            capture(None),
            capture(amount("1")),
            Operation::Void { hold_id: id },
            transfer(2),
            transfer(3),
        ];
        let Operation::Transfer { payment, to_user_id, .. } = transfer(2) else { panic!("a transfer") };
        let replayed = Operation::Transfer { payment, to_user_id, only_replays: true };
        assert_eq!(replayed.fingerprint(), transfer(2).fingerprint());
        let distinct: std::collections::HashSet<_> = all.iter().map(Operation::fingerprint).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_fingerprint_never_changes_between_versions() {
        // Stored with every transaction: a change would turn old retries into 422.
        let Fingerprint(bytes) = Operation::Charge(payment("50", "USD")).fingerprint();
        let hex: String = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert_eq!(hex, "00461bb390763572161802b3f19b3da8");
    }
}
