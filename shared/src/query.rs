//! Reads between gateway and shard node: queries and their answers. Reads change nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Kind, Moved, Transaction};
use crate::hold::{Hold, HoldPart, HoldStatus};
use crate::id::TransactionId;
use crate::money::{Currency, Money};
use crate::node_status::AGGREGATES;
use crate::origin::Origin;
use crate::session::SessionToken;
use crate::slot::{Slot, UserId};
use crate::transfer::{Transfer, TransferPart};

/// The path where a node takes a [`ReadRequest`] and answers with an [`Answer`]. Like `WRITE_PATH`, it
/// changes with the types.
pub const READ_PATH: &str = "/internal/v2/read";

/// A query, and what its client has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// What is to be read.
    pub query: Query,
    /// The token of the client's last write, which the answer must show. A strong balance always does.
    pub session: Option<SessionToken>,
    /// The client's request; `None` from older gateways. It crosses the wire behind the request
    /// ([`ReadRequest::to_wire`]).
    #[serde(skip)]
    pub origin: Option<Origin>,
}

impl ReadRequest {
    /// Encodes the request. What an older program does not know comes last, and is not read there.
    pub fn to_wire(&self) -> Vec<u8> {
        let takes_short_pages = matches!(&self.query, Query::History(query) if query.takes_short_pages);
        postcard::to_stdvec(&(self, takes_short_pages, &self.origin)).expect("plain data always serializes")
    }

    /// Decodes the request, also of an older program.
    ///
    /// # Errors
    /// When the bytes are no request.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (mut request, rest): (Self, &[u8]) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            return Ok(request);
        }
        let (takes_short_pages, rest): (bool, &[u8]) = postcard::take_from_bytes(rest)?;
        if let Query::History(query) = &mut request.query {
            query.takes_short_pages = takes_short_pages;
        }
        if !rest.is_empty() {
            request.origin = postcard::from_bytes(rest)?;
        }
        Ok(request)
    }
}

/// The header with the milliseconds that the gateway of a read still waits. A node answers within them,
/// whatever its databases do. Without the header it uses its own limit.
pub const DEADLINE_HEADER: &str = "picopay-deadline-ms";

/// A read of one user's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// One or all balances of a user.
    Balance {
        /// The user whose balances are read.
        user_id: UserId,
        /// In this currency only.
        currency: Option<Currency>,
        /// How fresh it must be.
        consistency: Consistency,
    },
    /// A user's completed transactions, newest first.
    History(HistoryQuery),
    /// One completed transaction, by its id.
    Lookup {
        /// The id of the transaction.
        id: TransactionId,
    },
    /// A user's holds, newest first, from the primary.
    Holds(HoldsQuery),
    /// One hold, by its id, from the primary.
    Hold {
        /// The id of the hold.
        id: TransactionId,
    },
    /// One or all balances of a user as they were at the end of a millisecond.
    BalanceAt {
        /// The user whose balances are read.
        user_id: UserId,
        /// In this currency only.
        currency: Option<Currency>,
        /// Unix time in milliseconds. The balances follow from all transactions up to here, by the time in
        /// their ids.
        at_ms: i64,
    },
    /// One transfer, by its id, from the primary.
    Transfer {
        /// The id of the transfer.
        id: TransactionId,
    },
}

/// A page of a user's holds. It may have fewer entries than `limit` and still not be the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldsQuery {
    /// The user whose holds are read.
    pub user_id: UserId,
    /// Holds on the page, 1–100.
    pub limit: u16,
    /// Only those older than this one: where the previous page said that it goes on.
    pub before: Option<TransactionId>,
    /// Only those with this status now. A hold whose time has run out is expired, whatever its row says.
    pub status: Option<HoldStatus>,
}

/// A page of a user's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// The user whose history is read.
    pub user_id: UserId,
    /// Transactions on the page, 1–100.
    pub limit: u16,
    /// Only those older than this one: the last of the previous page.
    pub before: Option<TransactionId>,
    /// Only transactions of this kind.
    pub kind: Option<Kind>,
    /// Made at or after this time; Unix time in milliseconds.
    pub from_ms: Option<i64>,
    /// Made before this time; Unix time in milliseconds.
    pub to_ms: Option<i64>,
    /// Whether a page may have fewer entries than `limit` and still not be the last, so that no request looks
    /// through all of a history. It crosses the wire behind the request ([`ReadRequest::to_wire`]): older
    /// gateways do not know such pages.
    #[serde(skip)]
    pub takes_short_pages: bool,
}

impl Query {
    /// The slot whose owner answers.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Balance { user_id, .. } | Self::BalanceAt { user_id, .. } => user_id.slot(),
            Self::History(history) => history.user_id.slot(),
            Self::Lookup { id } | Self::Hold { id } | Self::Transfer { id } => id.slot(),
            Self::Holds(holds) => holds.user_id.slot(),
        }
    }

    /// The lowest version of the wire that knows this query.
    pub fn least_wire(&self) -> u16 {
        match self {
            Self::BalanceAt { .. } => AGGREGATES,
            Self::Balance { .. }
            | Self::History(_)
            | Self::Lookup { .. }
            | Self::Holds(_)
            | Self::Hold { .. }
            | Self::Transfer { .. } => 0,
        }
    }
}

/// How fresh a balance must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Consistency {
    /// Read from the primary.
    #[default]
    Strong,
    /// From a replica whose lag is within bounds, else from the primary.
    Eventual,
}

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The rows, or why there are none.
    pub found: Found,
    /// The database that answered.
    pub source: Source,
}

impl Answer {
    /// Encodes the answer. What an older program does not know comes last, and is not read there: the maker
    /// of each transaction, where a history goes on, what holds reserve, and which transfers transactions are of.
    pub fn to_wire(&self) -> Vec<u8> {
        let makers: Vec<Option<&str>> =
            self.transactions().iter().map(|one| one.made_by.as_deref()).collect();
        let goes_on = match &self.found {
            Found::History { goes_on_before, .. } => *goes_on_before,
            _ => None,
        };
        let parts: Vec<(u32, &HoldPart)> = (0..)
            .zip(self.transactions())
            .filter(|(_, one)| !one.hold_part.is_empty())
            .map(|(position, one)| (position, &one.hold_part))
            .collect();
        let held: Vec<Money> = match &self.found {
            Found::Balances(balances) => balances.iter().map(|one| one.held).collect(),
            _ => Vec::new(),
        };
        let transfers: Vec<(u32, TransferPart)> = (0..)
            .zip(self.transactions())
            .filter_map(|(position, one)| Some((position, one.transfer?)))
            .collect();
        postcard::to_stdvec(&(self, makers, goes_on, parts, held, transfers))
            .expect("plain data always serializes")
    }

    /// Decodes the answer, also of an older program.
    ///
    /// # Errors
    /// When the bytes are no answer, or the part behind does not fit.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, postcard::Error> {
        type Behind = (Vec<Option<String>>, Option<TransactionId>);
        type OfHolds = (Vec<(u32, HoldPart)>, Vec<Money>);
        let (mut answer, rest): (Self, &[u8]) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            if let Found::History { transactions, has_more: true, goes_on_before } = &mut answer.found {
                *goes_on_before = transactions.last().map(|last| last.id);
            }
            return Ok(answer);
        }
        let ((makers, goes_on), rest): (Behind, &[u8]) = postcard::take_from_bytes(rest)?;
        // A release before there were holds sends no more.
        let ((parts, held), rest): (OfHolds, &[u8]) =
            if rest.is_empty() { Default::default() } else { postcard::take_from_bytes(rest)? };
        // Nor one from before there were transfers.
        let transfers: Vec<(u32, TransferPart)> =
            if rest.is_empty() { Vec::new() } else { postcard::from_bytes(rest)? };
        let mut balances: &mut [Balance] = &mut [];
        let mut transactions: &mut [Transaction] = &mut [];
        match &mut answer.found {
            Found::History { transactions: page, goes_on_before, .. } => {
                *goes_on_before = goes_on;
                transactions = page;
            }
            Found::Transaction(transaction) => transactions = std::slice::from_mut(&mut **transaction),
            Found::Balances(found) => balances = found,
            _ => {}
        }
        let misfit = || postcard::Error::SerdeDeCustom;
        if makers.len() != transactions.len() || !(held.is_empty() || held.len() == balances.len()) {
            return Err(misfit());
        }
        for (transaction, made_by) in transactions.iter_mut().zip(makers) {
            transaction.made_by = made_by.map(Arc::from);
        }
        for (position, part) in parts {
            let position = usize::try_from(position).unwrap_or(usize::MAX);
            transactions.get_mut(position).ok_or_else(misfit)?.hold_part = part;
        }
        for (position, transfer) in transfers {
            let position = usize::try_from(position).unwrap_or(usize::MAX);
            transactions.get_mut(position).ok_or_else(misfit)?.transfer = Some(transfer);
        }
        for (balance, held) in balances.iter_mut().zip(held) {
            if held.currency() != balance.balance.currency() {
                return Err(misfit());
            }
            balance.held = held;
        }
        Ok(answer)
    }

    fn transactions(&self) -> &[Transaction] {
        match &self.found {
            Found::History { transactions, .. } => transactions,
            Found::Transaction(transaction) => std::slice::from_ref(transaction),
            _ => &[],
        }
    }
}

/// What a [`Query`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Found {
    /// The user's balances, by currency.
    Balances(Vec<Balance>),
    /// A page of history.
    History {
        /// The transactions, newest first.
        transactions: Vec<Transaction>,
        /// Whether older ones may follow.
        has_more: bool,
        /// The next page begins before this transaction. It crosses the wire behind the answer.
        #[serde(skip)]
        goes_on_before: Option<TransactionId>,
    },
    /// The transaction that was asked for.
    Transaction(Box<Transaction>),
    /// The user does not exist.
    UserNotFound,
    /// The transaction does not exist.
    TransactionNotFound,
    /// This shard does not own the slot.
    Moved(Moved),
    /// No database of the shard could answer in time.
    Unavailable {
        /// The reason, for the log. No client sees it.
        reason: String,
    },
    /// A row of the user is not one that PicoPay wrote. Only in answers to a batch of reads: who asks for one
    /// read alone may not know this, and is told `Unavailable`.
    Corrupt {
        /// The reason, for the log. No client sees it.
        reason: String,
    },
    /// A page of a user's holds.
    Holds {
        /// The holds, newest first.
        holds: Vec<Hold>,
        /// The next page begins before this hold; `None` on the last page.
        goes_on_before: Option<TransactionId>,
    },
    /// The hold that was asked for.
    Hold {
        /// The hold as it is now.
        hold: Box<Hold>,
        /// What its user can spend now in its currency.
        available: Money,
    },
    /// The hold does not exist.
    HoldNotFound,
    /// A balance at a time lies too deep in a history to be found by looking at a bounded number of rows.
    RangeTooLarge,
    /// The transfer that was asked for, as it is now.
    Transfer(Box<Transfer>),
    /// The transfer does not exist.
    TransferNotFound,
}

/// What a user has in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Money", into = "Money")]
pub struct Balance {
    /// All that the user has.
    pub balance: Money,
    /// The part that open holds reserve. It crosses the wire behind the answer.
    pub held: Money,
}

impl Balance {
    /// What can be spent: zero when a row says that more is held than is there.
    pub fn available(self) -> Money {
        self.balance.checked_sub(self.held).unwrap_or(Money::zero(self.balance.currency()))
    }
}

/// A balance without holds.
impl From<Money> for Balance {
    fn from(balance: Money) -> Self {
        Self { balance, held: Money::zero(balance.currency()) }
    }
}

impl From<Balance> for Money {
    fn from(balance: Balance) -> Self {
        balance.balance
    }
}

/// The database that answered a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The shard's primary answered.
    Primary,
    /// A replica, this far behind.
    Replica {
        /// The lag in milliseconds.
        lag_ms: u32,
    },
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::command::Status;

    #[test]
    fn who_made_what_was_found_crosses_the_wire_and_is_no_hindrance_to_who_does_not_know_of_it() {
        let transaction = |made_by: Option<&str>| {
            let money = Money::parse("1", Currency::parse("USD").unwrap()).unwrap();
            Transaction {
                id: TransactionId::from_uuid(Uuid::nil()),
                user_id: UserId::try_from(1).unwrap(),
                kind: Kind::Charge,
                status: Status::Completed,
                money,
                balance_after: money,
                idempotency_key: None,
                charge_id: None,
                reference: None,
                metadata: None,
                made_by: made_by.map(Arc::from),
                hold_part: HoldPart::default(),
                transfer: None,
            }
        };
        let answer = |found: Found| Answer { found, source: Source::Replica { lag_ms: 3 } };
        let history = |makers: [Option<&str>; 3]| {
            let transactions = makers.map(transaction).to_vec();
            let goes_on_before = transactions.last().map(|last| last.id);
            answer(Found::History { transactions, has_more: true, goes_on_before })
        };
        let lookup = |made_by| answer(Found::Transaction(Box::new(transaction(made_by))));
        let one = transaction(None).money;
        let some_held = Balance { balance: one, held: one };
        let hold_part = HoldPart { available: Some(one), ..HoldPart::default() };
        let with_hold = Transaction { hold_part, ..transaction(None) };
        let with_hold = answer(Found::Transaction(Box::new(with_hold)));
        let part = TransferPart {
            transfer_id: TransactionId::first_at(5),
            other_user_id: UserId::try_from(2).unwrap(),
        };
        let with_transfer = Transaction { transfer: Some(part), ..transaction(None) };
        let with_transfer = answer(Found::Transaction(Box::new(with_transfer)));
        for (sent, to_older) in [
            (history([Some("shop"), None, Some("")]), history([None; 3])),
            (lookup(Some("shop")), lookup(None)),
            (answer(Found::Balances(vec![])), answer(Found::Balances(vec![]))),
            (
                answer(Found::Balances(vec![some_held])),
                answer(Found::Balances(vec![some_held.balance.into()])),
            ),
            (with_hold, lookup(None)),
            (with_transfer, lookup(None)),
        ] {
            let wire = sent.to_wire();
            assert_eq!(Answer::from_wire(&wire).unwrap(), sent);
            let of_older = postcard::from_bytes::<Answer>(&wire).unwrap();
            assert_eq!(postcard::to_stdvec(&of_older).unwrap(), postcard::to_stdvec(&to_older).unwrap());
            let from_older = postcard::to_stdvec(&sent).unwrap();
            assert_eq!(Answer::from_wire(&from_older).unwrap(), to_older);
            // The last byte is the number of transfers: without it, it is the answer of a program that knows none.
            if let Ok(shorter) = Answer::from_wire(&wire[..wire.len() - 1]) {
                assert_eq!(shorter, sent);
            }
        }
        let nowhere: Option<TransactionId> = None;
        let two: [Option<&str>; 2] = [Some("a"), Some("b")];
        let one_too_many = postcard::to_stdvec(&(lookup(None), two.as_slice(), nowhere)).unwrap();
        assert!(Answer::from_wire(&one_too_many).is_err());
        // An empty page that is not the last.
        let goes_on_before = Some(TransactionId::first_at(7));
        let empty = answer(Found::History { transactions: vec![], has_more: true, goes_on_before });
        assert_eq!(Answer::from_wire(&empty.to_wire()).unwrap(), empty);
    }

    #[test]
    fn an_older_gateway_is_given_no_short_pages() {
        let request = |takes_short_pages| {
            let query = HistoryQuery {
                user_id: UserId::try_from(1).unwrap(),
                limit: 20,
                before: None,
                kind: None,
                from_ms: Some(3),
                to_ms: None,
                takes_short_pages,
            };
            ReadRequest { query: Query::History(query), session: None, origin: None }
        };
        assert_eq!(ReadRequest::from_wire(&request(true).to_wire()).unwrap(), request(true));
        let of_older = postcard::to_stdvec(&request(true)).unwrap();
        assert_eq!(ReadRequest::from_wire(&of_older).unwrap(), request(false));
        // An older node reads what it knows.
        assert_eq!(postcard::from_bytes::<ReadRequest>(&request(true).to_wire()).unwrap(), request(false));
    }

    #[test]
    fn which_request_a_read_is_of_crosses_the_wire_and_is_no_hindrance_to_who_does_not_know_of_it() {
        let history = HistoryQuery {
            user_id: UserId::try_from(1).unwrap(),
            limit: 20,
            before: None,
            kind: None,
            from_ms: None,
            to_ms: None,
            takes_short_pages: true,
        };
        for query in [Query::History(history), Query::Lookup { id: TransactionId::first_at(7) }] {
            let takes_short_pages = matches!(query, Query::History(_));
            let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
            let origin = Some(Origin { request_id: "mine".into(), traceparent });
            let request = ReadRequest { query, session: None, origin };
            let wire = request.to_wire();
            assert_eq!(ReadRequest::from_wire(&wire).unwrap(), request);
            assert!(ReadRequest::from_wire(&wire[..wire.len() - 1]).is_err());
            // The previous release reads a request and one flag, and sends no more than these.
            let before: (ReadRequest, bool) = postcard::from_bytes(&wire).unwrap();
            assert_eq!(before.1, takes_short_pages);
            let of_before = postcard::to_stdvec(&before).unwrap();
            assert_eq!(ReadRequest::from_wire(&of_before).unwrap(), ReadRequest { origin: None, ..request });
        }
    }
}
