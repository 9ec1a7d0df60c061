//! The rules of transfers: taken from the sender, given to the recipient, ended.
//!
//! The three steps are commands of their own, since the two users may be of two shards. The first has a key, like a charge. The
//! other two are bound to the transfer: the recipient's shard decides about a credit once, and the sender's shard ends a
//! transfer once, by that decision.

use std::collections::{HashMap, HashSet};

use picopay_shared::command::{Kind, Outcome, Payment, Refusal, Status, Transaction};
use picopay_shared::hold::HoldPart;
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::slot::UserId;
use picopay_shared::transfer::{Credit, CreditRefusal, Credited, Transfer, TransferPart, TransferStatus};

use super::{Admitted, Book, Recorded, record_payment, refused};

#[derive(Debug, Default)]
pub struct KnownTransfers {
    /// Those that commands name, by their ids or by their keys.
    pub rows: HashMap<TransactionId, KnownTransfer>,
    /// What was decided about those that commands credit. Empty while credits are taken as new: then the constraint reports one
    /// that was decided before.
    pub credits: HashMap<(UserId, TransactionId), Credited>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct KnownTransfer {
    pub transfer: Transfer,
    /// The sender's balance right after the first step.
    pub balance_after: Money,
}

/// A decision about a credit. It never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct DecidedCredit {
    pub credit: Credit,
    /// The transaction by which the recipient has the money, or why there is none.
    pub decided: Result<TransactionId, CreditRefusal>,
    /// Unix time in milliseconds.
    pub at_ms: i64,
}

/// What a batch changes about transfers.
#[derive(Debug, Default)]
pub(super) struct TransferBook {
    new: Vec<TransactionId>,
    ended: Vec<TransactionId>,
    credits: Vec<DecidedCredit>,
}

/// The new transfers, those from before that have ended, and the credits.
pub(super) type Closed = (Vec<Transfer>, Vec<Transfer>, Vec<DecidedCredit>);

impl TransferBook {
    pub(super) fn close(self, known: &KnownTransfers) -> Closed {
        let row = |id: &TransactionId| known.rows[id].transfer.clone();
        let is_new: HashSet<&TransactionId> = self.new.iter().collect();
        let of_before = self.ended.iter().filter(|id| !is_new.contains(id)).map(row).collect();
        (self.new.iter().map(row).collect(), of_before, self.credits)
    }
}

impl Book {
    pub(super) fn begin_transfer(
        &mut self,
        admitted: &Admitted,
        payment: &Payment,
        to_user_id: UserId,
    ) -> Transaction {
        let account = (payment.user_id, payment.money.currency());
        let balance = self.balance(account.0, account.1);
        let id = self.next_id(account.0);
        let Some(left) = self.left_of_available(account, payment.money) else {
            let status = refused(admitted, Refusal::InsufficientBalance);
            let refused = record_payment(id, admitted, payment, Kind::TransferOut, status, balance);
            let transfer = Some(TransferPart { transfer_id: refused.id, other_user_id: to_user_id });
            return Transaction { hold_part: self.say_available(account), transfer, ..refused };
        };
        self.set_balance(account.0, left);
        let transfer = Transfer {
            id,
            from_user_id: account.0,
            to_user_id,
            status: TransferStatus::Pending,
            money: payment.money,
            idempotency_key: admitted.command.idempotency_key,
            ended_at_ms: None,
            reference: payment.reference.clone(),
            metadata: payment.metadata.clone(),
        };
        self.known.transfers.rows.insert(id, KnownTransfer { transfer, balance_after: left });
        self.transfers.new.push(id);
        let booked = record_payment(id, admitted, payment, Kind::TransferOut, Status::Completed, left);
        Transaction { transfer: Some(TransferPart { transfer_id: id, other_user_id: to_user_id }), ..booked }
    }

    /// The answer to a first step: a transfer that was begun shows as it is now, unlike what was refused.
    pub(super) fn show_transfer(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Decided { transaction, is_replayed }
                if transaction.kind == Kind::TransferOut && transaction.status == Status::Completed =>
            {
                self.transferred(transaction.id, is_replayed)
            }
            other => other,
        }
    }

    fn transferred(&self, id: TransactionId, is_replayed: bool) -> Outcome {
        match self.known.transfers.rows.get(&id) {
            None => Outcome::TransferNotFound,
            Some(KnownTransfer { transfer, balance_after }) => Outcome::Transferred {
                transfer: Box::new(transfer.clone()),
                balance_after: *balance_after,
                is_replayed,
            },
        }
    }

    pub(super) fn credit(&mut self, admitted: &Admitted, credit: &Credit) -> Outcome {
        let (user, place) = (credit.to_user_id, (credit.to_user_id, credit.transfer_id));
        if let Some(credited) = self.known.transfers.credits.get(&place) {
            return Outcome::Credited { credited: *credited, is_replayed: true };
        }
        self.expire_due(user);
        let now_ms = self.known.now.unix_ms();
        let balance = self.balance(user, credit.money.currency()).checked_add(credit.money);
        let decided = match balance {
            _ if !self.known.users.contains(&user) => Err(CreditRefusal::UserNotFound),
            Err(_) => Err(CreditRefusal::BalanceTooLarge),
            Ok(balance) => {
                self.set_balance(user, balance);
                let part =
                    TransferPart { transfer_id: credit.transfer_id, other_user_id: credit.from_user_id };
                let texts = (credit.reference.clone(), credit.metadata.clone());
                Ok(self.record_leg(admitted, (user, Kind::TransferIn), (credit.money, balance), part, texts))
            }
        };
        let credited = match decided {
            Ok(_) => Credited::Given,
            Err(reason) => Credited::Refused(reason),
        };
        // A move copies the credit with its transaction, or later.
        let at_ms = decided.map_or(now_ms, TransactionId::unix_ms);
        self.known.transfers.credits.insert(place, credited);
        self.transfers.credits.push(DecidedCredit { credit: credit.clone(), decided, at_ms });
        Outcome::Credited { credited, is_replayed: false }
    }

    /// Ends a transfer as its credit was decided. Another decision than the one by which it has ended is a bug, since there is
    /// only one.
    pub(super) fn settle(&mut self, admitted: &Admitted, id: TransactionId, credited: Credited) -> Outcome {
        let Some(KnownTransfer { transfer, .. }) = self.known.transfers.rows.get(&id).cloned() else {
            return Outcome::TransferNotFound;
        };
        let status = match credited {
            Credited::Given => TransferStatus::Completed,
            Credited::Refused(reason) => TransferStatus::Reversed { reason },
        };
        if transfer.status != TransferStatus::Pending {
            let is_same = transfer.status == status;
            return if is_same { self.transferred(id, true) } else { Outcome::Internal };
        }
        let user = transfer.from_user_id;
        self.expire_due(user);
        // A move copies the row with the transaction that it names, or later.
        let ended_at_ms = self.known.now.unix_ms().max(id.unix_ms());
        if status != TransferStatus::Completed {
            let balance = self.balance(user, transfer.money.currency()).checked_add(transfer.money);
            let Ok(balance) = balance else {
                return Outcome::Unavailable { reason: "the sender's balance has no room for it".to_owned() };
            };
            self.set_balance(user, balance);
            let part = TransferPart { transfer_id: id, other_user_id: transfer.to_user_id };
            let texts = (transfer.reference.clone(), transfer.metadata.clone());
            self.record_leg(admitted, (user, Kind::TransferBack), (transfer.money, balance), part, texts);
        }
        let row = self.known.transfers.rows.get_mut(&id).expect("it was found");
        (row.transfer.status, row.transfer.ended_at_ms) = (status, Some(ended_at_ms));
        self.transfers.ended.push(id);
        self.transferred(id, false)
    }

    fn record_leg(
        &mut self,
        admitted: &Admitted,
        (user_id, kind): (UserId, Kind),
        (money, balance_after): (Money, Money),
        part: TransferPart,
        (reference, metadata): (Option<String>, Option<String>),
    ) -> TransactionId {
        let id = self.next_id(user_id);
        let transaction = Transaction {
            id,
            user_id,
            kind,
            status: Status::Completed,
            money,
            balance_after,
            idempotency_key: None,
            charge_id: None,
            reference,
            metadata,
            made_by: admitted.command.made_by.clone(),
            hold_part: HoldPart::default(),
            transfer: Some(part),
        };
        self.transactions.push(Recorded { transaction, fingerprint: None });
        id
    }
}
