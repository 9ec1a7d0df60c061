//! The rules of holds: taken, captured, voided, expired.
//!
//! Held money stays in the balance; what is available is the rest. A hold counts for nothing from the moment on at which it
//! ends, whether or not that was written down. So before anything is decided for a user, those of his holds that have run
//! out are written down as expiries.

use std::collections::{HashMap, HashSet};

use picopay_shared::command::{Kind, Payment, Refusal, Status, Transaction};
use picopay_shared::hold::{Hold, HoldPart, HoldStatus, OPEN_HOLDS_MAX};
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Amount, Currency, Money, MoneyError};
use picopay_shared::slot::UserId;

use super::{Admitted, BalanceRow, Book, Recorded, id_with, record_payment, refused};

type Account = (UserId, Currency);

#[derive(Debug, Default)]
pub struct KnownHolds {
    /// Of the balances of which a part is held.
    pub held: HashMap<Account, Held>,
    /// Those that commands name, and those that have run out.
    pub rows: HashMap<TransactionId, Hold>,
    /// Users of whom a hold may have run out.
    pub due: HashMap<UserId, Due>,
    /// Whether no program is left that cannot read what holds have brought.
    pub are_told: bool,
}

/// What open holds reserve of a balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub sum: Money,
    pub count: u32,
    /// None of them ends before: Unix time in milliseconds. `None` when there are none.
    pub due_ms: Option<i64>,
}

#[derive(Debug, Default)]
pub struct Due {
    /// Open holds whose time has run out, in the order in which it did.
    pub holds: Vec<TransactionId>,
    /// When the first of the others ends, of each balance of which a part is held.
    pub next: Vec<(Currency, Option<i64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldRow {
    pub row: BalanceRow,
    pub held: Held,
}

/// A hold with the transaction that ended it, if one has.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedHold {
    pub hold: Hold,
    pub by: Option<TransactionId>,
}

/// What a batch changes about holds.
#[derive(Debug, Default)]
pub(super) struct HoldBook {
    changed: HashSet<Account>,
    new: Vec<TransactionId>,
    ended: Vec<(TransactionId, TransactionId)>,
}

/// When a hold ends that was taken with this id: Unix time in milliseconds.
pub(super) fn end_of(id: TransactionId, expires_in_s: u32) -> i64 {
    id.unix_ms() + i64::from(expires_in_s) * 1000
}

impl KnownHolds {
    /// The users of whom a hold may have run out by then, in the order of keys.
    pub fn users_due(&self, now_ms: i64) -> Vec<UserId> {
        let is_due = |held: &Held| held.due_ms.is_some_and(|due| due <= now_ms);
        let due = self.held.iter().filter(|(_, held)| is_due(held)).map(|((user, _), _)| *user);
        let mut users: Vec<UserId> = due.collect();
        users.sort_unstable_by_key(|user| (user.slot(), *user));
        users.dedup();
        users
    }
}

impl HoldBook {
    pub(super) fn has_changed(&self, account: Account) -> bool {
        self.changed.contains(&account)
    }

    /// The new holds, and those from before that have ended.
    pub(super) fn close(self, known: &KnownHolds) -> (Vec<EndedHold>, Vec<EndedHold>) {
        let by: HashMap<TransactionId, TransactionId> = self.ended.iter().copied().collect();
        let ended = |id: &TransactionId| EndedHold { hold: known.rows[id].clone(), by: by.get(id).copied() };
        let new: Vec<EndedHold> = self.new.iter().map(ended).collect();
        let of_before = self.ended.iter().map(|(id, _)| id).filter(|id| !self.new.contains(id));
        (new, of_before.map(ended).collect())
    }
}

impl Book {
    pub(super) fn owner_of_hold(&self, id: TransactionId) -> Option<UserId> {
        self.known.holds.rows.get(&id).map(|hold| hold.user_id)
    }

    /// What would be left of a balance; `None` when less than that is available.
    pub(super) fn left_of_available(&self, account: Account, money: Money) -> Option<Money> {
        let left = self.balance(account.0, account.1).checked_sub(money)?;
        match self.known.holds.held.get(&account) {
            None => Some(left),
            Some(held) => left.checked_sub(held.sum).map(|_| left),
        }
    }

    /// A program from before holds would replay the refusal without it.
    pub(super) fn say_available(&self, account: Account) -> HoldPart {
        let available = self.known.holds.are_told.then(|| self.available(account));
        HoldPart { available, ..HoldPart::default() }
    }

    fn available(&self, account: Account) -> Money {
        let balance = self.balance(account.0, account.1);
        balance.checked_sub(self.held(account).sum).expect("the ledger bounds what is held by the balance")
    }

    fn held(&self, account: Account) -> Held {
        let nothing = Held { sum: Money::zero(account.1), count: 0, due_ms: None };
        self.known.holds.held.get(&account).copied().unwrap_or(nothing)
    }

    fn set_held(&mut self, account: Account, held: Held) {
        self.known.holds.held.insert(account, held);
        self.holds.changed.insert(account);
        self.changed_balances.push(account);
    }

    /// Writes down which of the user's holds have run out. After the first time in a batch there is nothing left to do.
    pub(super) fn expire_due(&mut self, user: UserId) {
        if self.known.holds.due.is_empty() {
            return;
        }
        let Some(due) = self.known.holds.due.remove(&user) else { return };
        for id in due.holds {
            self.expire(id);
        }
        for (currency, next) in due.next {
            let held = self.held((user, currency));
            let due_ms = next.filter(|_| held.count > 0);
            if held.due_ms != due_ms {
                // Also when nothing had run out: else every batch would look again.
                self.set_held((user, currency), Held { due_ms, ..held });
            }
        }
    }

    fn expire(&mut self, id: TransactionId) {
        let hold = self.known.holds.rows[&id].clone();
        if hold.status != HoldStatus::Open {
            return;
        }
        let account = (hold.user_id, hold.money.currency());
        let expiry = Transaction {
            id: self.next_id(hold.user_id),
            user_id: hold.user_id,
            kind: Kind::Expiry,
            status: Status::Completed,
            money: hold.money,
            balance_after: self.balance(account.0, account.1),
            idempotency_key: None,
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: None,
            hold_part: HoldPart { hold_id: Some(id), ..HoldPart::default() },
            transfer: None,
        };
        self.end(id, HoldStatus::Expired, Money::zero(account.1), expiry.id);
        self.transactions.push(Recorded { transaction: expiry, fingerprint: None });
    }

    pub(super) fn take_hold(
        &mut self,
        admitted: &Admitted,
        payment: &Payment,
        expires_in_s: u32,
    ) -> Transaction {
        let (user, money) = (payment.user_id, payment.money);
        let account = (user, money.currency());
        let balance = self.balance(user, account.1);
        let id = self.next_id(user);
        let expires_at_ms = end_of(id, expires_in_s);
        let open: u32 = (self.known.holds.held.iter())
            .filter(|((of, _), _)| *of == user)
            .map(|(_, held)| held.count)
            .sum();
        let refusal = if open >= OPEN_HOLDS_MAX {
            Some(Refusal::TooManyHolds)
        } else if self.left_of_available(account, money).is_none() {
            Some(Refusal::InsufficientBalance)
        } else {
            None
        };
        let status = if let Some(refusal) = refusal {
            refused(admitted, refusal)
        } else {
            let held = self.held(account);
            let sum = held.sum.checked_add(money).expect("no more than the balance");
            let due_ms = Some(held.due_ms.map_or(expires_at_ms, |due| due.min(expires_at_ms)));
            self.set_held(account, Held { sum, count: held.count + 1, due_ms });
            Status::Completed
        };
        let recorded = record_payment(id, admitted, payment, Kind::Hold, status, balance);
        let hold_part = HoldPart {
            expires_at_ms: Some(expires_at_ms),
            available: Some(self.available(account)),
            ..HoldPart::default()
        };
        let recorded = Transaction { hold_part, ..recorded };
        if recorded.status == Status::Completed {
            let hold = recorded.hold().expect("a hold was taken");
            self.known.holds.rows.insert(id, hold);
            self.holds.new.push(id);
        }
        recorded
    }

    pub(super) fn capture(
        &mut self,
        admitted: &Admitted,
        hold_id: TransactionId,
        amount: Option<Amount>,
    ) -> Result<Transaction, MoneyError> {
        let (hold, account) = self.named_hold(hold_id);
        let asked = amount.map(|amount| amount.in_currency(account.1)).transpose()?;
        let money = asked.unwrap_or(hold.money);
        let refusal = if hold.status != HoldStatus::Open {
            Some(Refusal::HoldNotOpen { status: hold.status })
        } else if hold.money.checked_sub(money).is_none() {
            Some(Refusal::CaptureExceedsHold { remaining: hold.money })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Ok(self.record_step(admitted, &hold, Kind::Charge, refused(admitted, refusal), money));
        }
        let recorded = self.record_step(admitted, &hold, Kind::Charge, Status::Completed, money);
        self.end(hold_id, HoldStatus::Captured, money, recorded.id);
        let balance = self.balance(account.0, account.1).checked_sub(money);
        let balance = balance.expect("the ledger bounds what is held by the balance");
        self.set_balance(account.0, balance);
        let (reference, metadata) = (hold.reference, hold.metadata);
        Ok(Transaction { balance_after: balance, reference, metadata, ..recorded })
    }

    pub(super) fn void(&mut self, admitted: &Admitted, hold_id: TransactionId) -> Transaction {
        let (hold, account) = self.named_hold(hold_id);
        if hold.status != HoldStatus::Open {
            let status = refused(admitted, Refusal::HoldNotOpen { status: hold.status });
            return self.record_step(admitted, &hold, Kind::Void, status, hold.money);
        }
        let recorded = self.record_step(admitted, &hold, Kind::Void, Status::Completed, hold.money);
        self.end(hold_id, HoldStatus::Voided, Money::zero(account.1), recorded.id);
        let hold_part = HoldPart {
            expires_at_ms: Some(hold.expires_at_ms),
            available: Some(self.available(account)),
            hold_key: Some(hold.idempotency_key),
            ..recorded.hold_part
        };
        let (reference, metadata) = (hold.reference, hold.metadata);
        Transaction { hold_part, reference, metadata, ..recorded }
    }

    /// The hold as it is now. A batch's clock goes on while it decides, and so a hold may run out in between.
    fn named_hold(&mut self, id: TransactionId) -> (Hold, Account) {
        if self.known.now.unix_ms() >= self.known.holds.rows[&id].expires_at_ms {
            self.expire(id);
        }
        let hold = self.known.holds.rows[&id].clone();
        let account = (hold.user_id, hold.money.currency());
        (hold, account)
    }

    fn record_step(
        &mut self,
        admitted: &Admitted,
        hold: &Hold,
        kind: Kind,
        status: Status,
        money: Money,
    ) -> Transaction {
        Transaction {
            id: id_with(self.next_id(hold.user_id), &status),
            user_id: hold.user_id,
            kind,
            status,
            money,
            balance_after: self.balance(hold.user_id, hold.money.currency()),
            idempotency_key: Some(admitted.command.idempotency_key),
            charge_id: None,
            reference: None,
            metadata: None,
            made_by: admitted.command.made_by.clone(),
            hold_part: HoldPart { hold_id: Some(hold.id), ..HoldPart::default() },
            transfer: None,
        }
    }

    /// Ends an open hold and frees what it reserved.
    fn end(&mut self, id: TransactionId, status: HoldStatus, captured: Money, by: TransactionId) {
        let hold = self.known.holds.rows.get_mut(&id).expect("the caller has it");
        assert_eq!(hold.status, HoldStatus::Open, "a hold ends once");
        (hold.status, hold.captured) = (status, captured);
        let (account, money) = ((hold.user_id, hold.money.currency()), hold.money);
        let before = self.held(account);
        let sum = before.sum.checked_sub(money).expect("the ledger sums the open holds up");
        let count = before.count - 1;
        let due_ms = before.due_ms.filter(|_| count > 0);
        self.set_held(account, Held { sum, count, due_ms });
        self.holds.ended.push((id, by));
    }
}
