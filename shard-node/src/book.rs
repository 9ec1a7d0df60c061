//! The rules: from balances and commands to outcomes and postings.
//!
//! Pure and sequential: no async, no SQL, no clock. All input was read under the users' locks, the time too.
//! All output is written before those locks are released. Commands are decided in order, and each sees the
//! results of those before. So several charges of one user become one new balance.

mod holds;

mod reused_key;

mod transfers;

use std::collections::{HashMap, HashSet};

use picopay_shared::command::{
    Command, Fingerprint, Kind, Operation, Outcome, Payment, Refusal, Status, Transaction,
};
use picopay_shared::hold::HoldPart;
use picopay_shared::id::{Stamp, TransactionId};
use picopay_shared::money::{Currency, Money, MoneyError};
use picopay_shared::slot::UserId;
use picopay_shared::transfer::Transfer;
use uuid::Uuid;

use self::holds::HoldBook;
pub use self::holds::{Due, EndedHold, Held, HeldRow, KnownHolds};
use self::transfers::TransferBook;
pub use self::transfers::{DecidedCredit, KnownTransfer, KnownTransfers};

#[derive(Debug)]
pub struct Admitted<'a> {
    pub position: usize,
    pub command: &'a Command,
}

/// A transaction with the fingerprint of its request, with which a replay is compared. What has no key has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub transaction: Transaction,
    pub fingerprint: Option<Fingerprint>,
}

impl Recorded {
    pub fn fingerprint(&self) -> Option<&[u8]> {
        self.fingerprint.as_ref().map(|Fingerprint(bytes)| bytes.as_slice())
    }
}

#[derive(Debug, Default)]
pub struct Known {
    pub users: HashSet<UserId>,
    pub created: HashSet<UserId>,
    pub balances: HashMap<(UserId, Currency), Money>,
    /// The highest stamp in each user's balance rows. A user without one, or with the lowest, gets ids by
    /// time alone.
    pub last_stamps: HashMap<UserId, Stamp>,
    /// The primary's clock, read once all users were locked.
    pub now: Stamp,
    pub by_key: HashMap<(UserId, Uuid), Recorded>,
    pub refunded: HashMap<TransactionId, Transaction>,
    pub refund_totals: HashMap<TransactionId, Money>,
    pub holds: KnownHolds,
    pub transfers: KnownTransfers,
}

#[derive(Debug, Default)]
pub struct Booked {
    pub outcomes: Vec<(usize, Outcome)>,
    pub transactions: Vec<Recorded>,
    pub updated_balances: Vec<BalanceRow>,
    /// Balances whose currency is new to the user.
    pub new_balances: Vec<BalanceRow>,
    pub refund_totals: Vec<RefundTotal>,
    /// Balances of which another part is held than before. A new one is among `new_balances`, too.
    pub held_balances: Vec<HeldRow>,
    pub new_holds: Vec<EndedHold>,
    pub ended_holds: Vec<EndedHold>,
    pub new_transfers: Vec<Transfer>,
    pub ended_transfers: Vec<Transfer>,
    pub credits: Vec<DecidedCredit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceRow {
    pub user_id: UserId,
    /// What the batch has read; zero where there was no balance.
    pub before: Money,
    pub balance: Money,
    /// The stamp of the user's last id.
    pub last_stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundTotal {
    pub user_id: UserId,
    pub charge_id: TransactionId,
    pub charged: Money,
    pub refunded: Money,
}

pub fn decide(batch: &[Admitted], known: Known) -> Booked {
    let mut book = Book::open(known);
    let outcomes = batch.iter().map(|admitted| (admitted.position, book.decide_one(admitted))).collect();
    book.close(outcomes)
}

struct Book {
    known: Known,
    balances_before: HashMap<(UserId, Currency), Money>,
    changed_balances: Vec<(UserId, Currency)>,
    changed_totals: Vec<TransactionId>,
    transactions: Vec<Recorded>,
    new_by_key: HashMap<(UserId, Uuid), usize>,
    holds: HoldBook,
    transfers: TransferBook,
}

impl Book {
    fn open(known: Known) -> Self {
        let balances_before = known.balances.clone();
        Self {
            known,
            balances_before,
            changed_balances: Vec::new(),
            changed_totals: Vec::new(),
            transactions: Vec::new(),
            new_by_key: HashMap::new(),
            holds: HoldBook::default(),
            transfers: TransferBook::default(),
        }
    }

    fn decide_one(&mut self, admitted: &Admitted) -> Outcome {
        let command = admitted.command;
        match &command.operation {
            Operation::CreateUser { user_id } => self.answer_creation(*user_id),
            Operation::Sweep { user_id } => {
                self.expire_due(*user_id);
                Outcome::Swept
            }
            Operation::TopUp(payment) => {
                self.once(command, payment.user_id, |book| book.top_up(admitted, payment))
            }
            Operation::Charge(payment) => {
                self.once(command, payment.user_id, |book| Ok(book.charge(admitted, payment)))
            }
            Operation::Refund { charge_id, .. } => match self.known.refunded.get(charge_id).cloned() {
                None => Outcome::TransactionNotFound,
                Some(charge) => self.once(command, charge.user_id, |book| book.refund(admitted, &charge)),
            },
            Operation::Hold { payment, expires_in_s } => self
                .once(command, payment.user_id, |book| Ok(book.take_hold(admitted, payment, *expires_in_s))),
            Operation::Capture { hold_id, amount } => match self.owner_of_hold(*hold_id) {
                None => Outcome::HoldNotFound,
                Some(user) => self.once(command, user, |book| book.capture(admitted, *hold_id, *amount)),
            },
            Operation::Void { hold_id } => match self.owner_of_hold(*hold_id) {
                None => Outcome::HoldNotFound,
                Some(user) => self.once(command, user, |book| Ok(book.void(admitted, *hold_id))),
            },
            Operation::Transfer { payment, to_user_id, .. } if payment.user_id == *to_user_id => {
                Outcome::AmountInvalid { detail: "a transfer is to somebody else".to_owned() }
            }
            Operation::Transfer { payment, only_replays: true, .. }
                if self.answer_of(payment.user_id, command.idempotency_key).is_none() =>
            {
                Outcome::UserNotFound
            }
            Operation::Transfer { payment, to_user_id, .. } => {
                let outcome = self.once(command, payment.user_id, |book| {
                    Ok(book.begin_transfer(admitted, payment, *to_user_id))
                });
                self.show_transfer(outcome)
            }
            Operation::Credit(credit) => self.credit(admitted, credit),
            Operation::Settle { transfer_id, credited } => self.settle(admitted, *transfer_id, *credited),
        }
    }

    fn answer_creation(&mut self, user: UserId) -> Outcome {
        // Removed, so that the second of two equal requests in one batch finds an existing user.
        if self.known.created.remove(&user) {
            Outcome::UserCreated
        } else if self.known.users.contains(&user) {
            Outcome::UserExisted
        } else {
            Outcome::Internal
        }
    }

    /// What was recorded under a key, as far as keys were looked up.
    fn answer_of(&self, user: UserId, key: Uuid) -> Option<&Recorded> {
        let of_this_batch = self.new_by_key.get(&(user, key)).map(|position| &self.transactions[*position]);
        of_this_batch.or_else(|| self.known.by_key.get(&(user, key)))
    }

    /// Runs `book_new` unless the key already has its answer.
    fn once(
        &mut self,
        command: &Command,
        user: UserId,
        book_new: impl FnOnce(&mut Self) -> Result<Transaction, MoneyError>,
    ) -> Outcome {
        if !self.known.users.contains(&user) {
            return Outcome::UserNotFound;
        }
        self.expire_due(user);
        if let Some(recorded) = self.answer_of(user, command.idempotency_key) {
            return reused_key::answer(command, recorded);
        }
        let key = (user, command.idempotency_key);
        match book_new(self) {
            Err(error) => Outcome::AmountInvalid { detail: error.to_string() },
            Ok(transaction) => {
                let outcome =
                    Outcome::Decided { transaction: Box::new(transaction.clone()), is_replayed: false };
                self.new_by_key.insert(key, self.transactions.len());
                self.transactions.push(Recorded { transaction, fingerprint: Some(command.fingerprint) });
                outcome
            }
        }
    }

    fn top_up(&mut self, admitted: &Admitted, payment: &Payment) -> Result<Transaction, MoneyError> {
        let balance = self.balance(payment.user_id, payment.money.currency()).checked_add(payment.money)?;
        self.set_balance(payment.user_id, balance);
        let id = self.next_id(payment.user_id);
        Ok(record_payment(id, admitted, payment, Kind::TopUp, Status::Completed, balance))
    }

    fn charge(&mut self, admitted: &Admitted, payment: &Payment) -> Transaction {
        let balance = self.balance(payment.user_id, payment.money.currency());
        let id = self.next_id(payment.user_id);
        let account = (payment.user_id, payment.money.currency());
        let Some(left) = self.left_of_available(account, payment.money) else {
            let status = refused(admitted, Refusal::InsufficientBalance);
            let refused = record_payment(id, admitted, payment, Kind::Charge, status, balance);
            return Transaction { hold_part: self.say_available(account), ..refused };
        };
        self.set_balance(payment.user_id, left);
        record_payment(id, admitted, payment, Kind::Charge, Status::Completed, left)
    }

    fn refund(&mut self, admitted: &Admitted, charge: &Transaction) -> Result<Transaction, MoneyError> {
        let Operation::Refund { amount, .. } = &admitted.command.operation else {
            unreachable!("only refunds come here");
        };
        let (user, currency) = (charge.user_id, charge.money.currency());
        let asked = amount.map(|amount| amount.in_currency(currency)).transpose()?;
        let balance = self.balance(user, currency);
        if charge.kind != Kind::Charge {
            let money = asked.unwrap_or(Money::zero(currency));
            let status = refused(admitted, Refusal::NotRefundable);
            return Ok(self.record_refund(admitted, charge, status, money, balance));
        }
        let refunded = self.known.refund_totals.get(&charge.id).copied().unwrap_or(Money::zero(currency));
        let remaining =
            charge.money.checked_sub(refunded).expect("the ledger bounds refunds by their charge");
        let money = asked.unwrap_or(remaining);
        if money.is_zero() || remaining.checked_sub(money).is_none() {
            let status = refused(admitted, Refusal::RefundExceedsCharge { remaining });
            return Ok(self.record_refund(admitted, charge, status, money, balance));
        }
        let balance = balance.checked_add(money)?;
        self.set_balance(user, balance);
        let total = refunded.checked_add(money)?;
        self.known.refund_totals.insert(charge.id, total);
        if !self.changed_totals.contains(&charge.id) {
            self.changed_totals.push(charge.id);
        }
        Ok(self.record_refund(admitted, charge, Status::Completed, money, balance))
    }

    fn record_refund(
        &mut self,
        admitted: &Admitted,
        charge: &Transaction,
        status: Status,
        money: Money,
        balance_after: Money,
    ) -> Transaction {
        Transaction {
            id: id_with(self.next_id(charge.user_id), &status),
            user_id: charge.user_id,
            kind: Kind::Refund,
            status,
            money,
            balance_after,
            idempotency_key: Some(admitted.command.idempotency_key),
            charge_id: Some(charge.id),
            reference: None,
            metadata: None,
            made_by: admitted.command.made_by.clone(),
            hold_part: HoldPart::default(),
            transfer: None,
        }
    }

    /// An id above the user's last one, or by the clock where that is higher. Every operation of the batch
    /// has its own stamp. A refusal's stamp is kept only if a booking of the batch follows: no history lists
    /// it, and it costs no update.
    fn next_id(&mut self, user: UserId) -> TransactionId {
        let by_clock = self.known.now;
        self.known.now = by_clock.next();
        let last = self.known.last_stamps.entry(user).or_default();
        *last = by_clock.max(last.next());
        last.id_for(user)
    }

    fn balance(&self, user: UserId, currency: Currency) -> Money {
        self.known.balances.get(&(user, currency)).copied().unwrap_or(Money::zero(currency))
    }

    fn set_balance(&mut self, user: UserId, balance: Money) {
        let account = (user, balance.currency());
        self.known.balances.insert(account, balance);
        self.changed_balances.push(account);
    }

    fn close(mut self, outcomes: Vec<(usize, Outcome)>) -> Booked {
        // In the order of keys, like the locks, and each account once with its last balance.
        self.changed_balances.sort_unstable();
        self.changed_balances.dedup();
        let (mut updated_balances, mut new_balances) = (Vec::new(), Vec::new());
        let mut held_balances = Vec::new();
        for account in self.changed_balances {
            let before = self.balances_before.get(&account).copied();
            let row = BalanceRow {
                user_id: account.0,
                before: before.unwrap_or(Money::zero(account.1)),
                balance: self.known.balances[&account],
                last_stamp: self.known.last_stamps[&account.0],
            };
            let is_new = before.is_none();
            if is_new {
                new_balances.push(row);
            }
            if self.holds.has_changed(account) {
                let before = if is_new { row.balance } else { row.before };
                let row = BalanceRow { before, ..row };
                held_balances.push(HeldRow { row, held: self.known.holds.held[&account] });
            } else if !is_new {
                updated_balances.push(row);
            }
        }
        let (new_holds, ended_holds) = self.holds.close(&self.known.holds);
        let (new_transfers, ended_transfers, credits) = self.transfers.close(&self.known.transfers);
        let refund_totals = self
            .changed_totals
            .iter()
            .map(|charge_id| {
                let charge = &self.known.refunded[charge_id];
                RefundTotal {
                    user_id: charge.user_id,
                    charge_id: *charge_id,
                    charged: charge.money,
                    refunded: self.known.refund_totals[charge_id],
                }
            })
            .collect();
        Booked {
            outcomes,
            transactions: self.transactions,
            updated_balances,
            new_balances,
            refund_totals,
            held_balances,
            new_holds,
            ended_holds,
            new_transfers,
            ended_transfers,
            credits,
        }
    }
}

fn refused(admitted: &Admitted, refusal: Refusal) -> Status {
    Status::Refused { refusal, request_id: admitted.command.origin.request_id.clone() }
}

/// Refusals have ids in a range that history does not list.
fn id_with(id: TransactionId, status: &Status) -> TransactionId {
    match status {
        Status::Completed => id,
        Status::Refused { .. } => id.of_refusal(),
    }
}

fn record_payment(
    id: TransactionId,
    admitted: &Admitted,
    payment: &Payment,
    kind: Kind,
    status: Status,
    balance_after: Money,
) -> Transaction {
    Transaction {
        id: id_with(id, &status),
        user_id: payment.user_id,
        kind,
        status,
        money: payment.money,
        balance_after,
        idempotency_key: Some(admitted.command.idempotency_key),
        charge_id: None,
        reference: payment.reference.clone(),
        metadata: payment.metadata.clone(),
        made_by: admitted.command.made_by.clone(),
        hold_part: HoldPart::default(),
        transfer: None,
    }
}

#[cfg(test)]
mod tests;
