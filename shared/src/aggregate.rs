//! Reads over the rows of many users, as they cross the wire: sums and totals.
//!
//! A gateway asks each shard about the slots that it takes for the shard's. The shard answers for those that it owned at
//! the moment of its answer, and names the others. The gateway asks again about those alone. So every user counts once,
//! also while slots move: in the one answer for which his slot was asked.

use serde::{Deserialize, Serialize};

use crate::command::{Kind, Moved};
use crate::money::MoneySum;
use crate::origin::Origin;
use crate::query::Source;
use crate::session::SessionToken;
use crate::slot::{Slot, UserId};

/// The path where a node takes an [`AggregateRequest`] and answers with an [`AggregateAnswer`]. A node names it by
/// [`AGGREGATES`](crate::node_status::AGGREGATES).
pub const AGGREGATE_PATH: &str = "/internal/v4/aggregate";

/// Transactions that a shard looks at for one request for sums. More are refused.
pub const SUMS_LOOKS_MAX: u64 = 1_000_000;

/// A query over many users, and what its client has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AggregateRequest {
    /// What is to be added up.
    pub query: AggregateQuery,
    /// The token of the client's last write, which the answer must show.
    pub session: Option<SessionToken>,
    /// The client's request, which log lines name.
    pub origin: Origin,
}

impl AggregateRequest {
    /// Encodes the request for a node.
    pub fn to_wire(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serializes")
    }

    /// Decodes the request. What a later release added behind it is not read.
    ///
    /// # Errors
    /// When the bytes are no request.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::take_from_bytes(bytes).map(|(request, _later)| request)
    }
}

/// What is to be added up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AggregateQuery {
    /// Completed transactions of some users, by currency and kind.
    Sums(SumsQuery),
    /// All balances of these slots, by currency.
    Totals {
        /// The slots that are asked for.
        slots: Vec<Slot>,
    },
}

/// Completed transactions of the kinds that move money ([`Kind::moves_money`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SumsQuery {
    /// The users, each once. Those who do not exist add nothing.
    pub user_ids: Vec<UserId>,
    /// Only transactions of this kind.
    pub kind: Option<Kind>,
    /// Made at or after this time; Unix time in milliseconds.
    pub from_ms: Option<i64>,
    /// Made before this time; Unix time in milliseconds.
    pub to_ms: Option<i64>,
}

impl AggregateQuery {
    /// The slots that are asked for, each once, in order.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots = match self {
            Self::Sums(query) => query.user_ids.iter().map(|user| user.slot()).collect(),
            Self::Totals { slots } => slots.clone(),
        };
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The same query about some of its slots only.
    #[must_use]
    pub fn about(&self, is_asked: impl Fn(Slot) -> bool) -> Self {
        match self {
            Self::Sums(query) => Self::Sums(SumsQuery {
                user_ids: query.user_ids.iter().copied().filter(|user| is_asked(user.slot())).collect(),
                ..query.clone()
            }),
            Self::Totals { slots } => {
                Self::Totals { slots: slots.iter().copied().filter(|slot| is_asked(*slot)).collect() }
            }
        }
    }
}

/// What a shard adds up, and from which database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AggregateAnswer {
    /// The figures, or why there are none.
    pub found: Aggregated,
    /// The database that answered.
    pub source: Source,
}

impl AggregateAnswer {
    /// Encodes the answer for a gateway.
    pub fn to_wire(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serializes")
    }

    /// Decodes the answer. What a later release added behind it is not read.
    ///
    /// # Errors
    /// When the bytes are no answer.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::take_from_bytes(bytes).map(|(answer, _later)| answer)
    }
}

/// What an [`AggregateQuery`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Aggregated {
    /// What was added up.
    Figures(Figures),
    /// More than [`SUMS_LOOKS_MAX`] transactions are in the range of these users.
    RangeTooLarge,
    /// No database of the shard could answer in time.
    Unavailable {
        /// The reason, for the log. No client sees it.
        reason: String,
    },
    /// A row is not one that PicoPay wrote.
    Corrupt {
        /// The reason, for the log. No client sees it.
        reason: String,
    },
}

/// What was added up, and for which slots it was not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Of a query for sums.
    pub sums: Vec<Sum>,
    /// Of a query for totals.
    pub totals: Vec<Total>,
    /// The slots that were asked for and are not this shard's. Nothing of them is in the figures.
    pub not_owned: Vec<Moved>,
}

/// Transactions of one kind in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// The kind of the transactions.
    pub kind: Kind,
    /// How many there are.
    pub count: u64,
    /// What they add up to.
    pub amount: MoneySum,
}

/// All balances in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// How many users have a balance, be it zero.
    pub users: u64,
    /// What they have together.
    pub balance: MoneySum,
    /// What open holds reserve of it.
    pub held: MoneySum,
    /// What has left a sender's balance in these slots, and has not arrived or come back.
    pub in_transit: MoneySum,
}

/// A sum passed what a decimal can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sum is too large")]
pub struct SumTooLarge;

impl Figures {
    /// Adds what other slots gave. What was not owned there is not taken over.
    ///
    /// # Errors
    /// [`SumTooLarge`].
    pub fn add(&mut self, other: &Self) -> Result<(), SumTooLarge> {
        let plus = |one: MoneySum, other| one.checked_add(other).map_err(|_| SumTooLarge);
        for add in &other.sums {
            let key = |sum: &Sum| (sum.amount.currency(), sum.kind);
            match self.sums.iter_mut().find(|sum| key(sum) == key(add)) {
                Some(sum) => {
                    sum.count += add.count;
                    sum.amount = plus(sum.amount, add.amount)?;
                }
                None => self.sums.push(*add),
            }
        }
        for add in &other.totals {
            let currency = add.balance.currency();
            match self.totals.iter_mut().find(|total| total.balance.currency() == currency) {
                Some(total) => {
                    total.users += add.users;
                    total.balance = plus(total.balance, add.balance)?;
                    total.held = plus(total.held, add.held)?;
                    total.in_transit = plus(total.in_transit, add.in_transit)?;
                }
                None => self.totals.push(*add),
            }
        }
        Ok(())
    }

    /// The figures by currency, and within it by kind in the documentation's order.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        let place = |kind: Kind| Kind::ALL.iter().position(|one| *one == kind);
        self.sums.sort_by_key(|sum| (sum.amount.currency().code(), place(sum.kind)));
        self.totals.sort_by_key(|total| total.balance.currency().code());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Currency, Money};

    fn usd(text: &str) -> MoneySum {
        Money::parse(text, Currency::parse("USD").unwrap()).unwrap().into()
    }

    fn user(id: i64) -> UserId {
        UserId::try_from(id).unwrap()
    }

    #[test]
    fn figures_add_up_by_currency_and_kind_and_keep_their_own_missing_slots() {
        let sum = |kind, count, amount| Sum { kind, count, amount: usd(amount) };
        let total = |users, amount| Total {
            users,
            balance: usd(amount),
            held: usd("1"),
            in_transit: MoneySum::zero(Currency::parse("USD").unwrap()),
        };
        let missing = Moved { slot: Slot::new(7).unwrap(), owner: None, epoch: 0 };
        let mut all = Figures {
            sums: vec![sum(Kind::Refund, 1, "1")],
            totals: vec![total(2, "10")],
            not_owned: vec![],
        };
        let other = Figures {
            sums: vec![sum(Kind::Charge, 2, "5"), sum(Kind::Refund, 1, "0.50")],
            totals: vec![total(1, "2.50")],
            not_owned: vec![missing],
        };
        all.add(&other).unwrap();
        let all = all.sorted();
        assert_eq!(all.sums, [sum(Kind::Charge, 2, "5"), sum(Kind::Refund, 2, "1.50")]);
        assert_eq!(all.totals, [Total { held: usd("2"), ..total(3, "12.50") }]);
        assert_eq!(all.not_owned, []);
    }

    #[test]
    fn a_query_about_some_of_its_slots_keeps_the_rest_of_what_it_asks() {
        let query = AggregateQuery::Sums(SumsQuery {
            user_ids: vec![user(1), user(2), user(3)],
            kind: Some(Kind::Charge),
            from_ms: Some(1),
            to_ms: None,
        });
        let slot = user(2).slot();
        let AggregateQuery::Sums(part) = query.about(|one| one == slot) else { panic!("still sums") };
        assert_eq!((part.user_ids, part.kind, part.from_ms), (vec![user(2)], Some(Kind::Charge), Some(1)));
        assert_eq!(query.slots().len(), 3);
        let request = AggregateRequest { query, session: None, origin: Origin::default() };
        let mut wire = request.to_wire();
        wire.push(7);
        assert_eq!(AggregateRequest::from_wire(&wire).unwrap(), request, "a later release may add something");
    }
}
