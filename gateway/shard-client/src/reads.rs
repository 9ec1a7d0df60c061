//! The reads, each with its own answer.
//!
//! A node answers every query with one enum. This file sorts out what each query can find, so that no caller
//! has to.

use picopay_shared::command::Transaction;
use picopay_shared::hold::Hold;
use picopay_shared::id::TransactionId;
use picopay_shared::money::{Currency, Money};
use picopay_shared::origin::Origin;
use picopay_shared::query::{
    Answer, Balance, Consistency, Found, HistoryQuery, HoldsQuery, Query, ReadRequest, Source,
};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::UserId;
use picopay_shared::transfer::Transfer;
use tracing::error;

use crate::client::ShardClient;
use crate::ended::NotDone;
use crate::error::{SOON, ShardError};

#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    pub found: Option<T>,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub struct Reader {
    pub origin: Origin,
    pub session: Option<SessionToken>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub transactions: Vec<Transaction>,
    /// The next page begins before this transaction; `None` at the end.
    pub goes_on_before: Option<TransactionId>,
}

/// A page of a user's holds.
#[derive(Debug, Clone, PartialEq)]
pub struct HoldsPage {
    pub holds: Vec<Hold>,
    /// The next page begins before this hold; `None` at the end.
    pub goes_on_before: Option<TransactionId>,
}

/// What a user's balances were.
#[derive(Debug, Clone, PartialEq)]
pub enum BalancesAt {
    Found(Vec<Money>),
    /// One of them lies too deep in the history: too many transactions in other currencies are around it.
    TooDeep,
}

impl ShardClient {
    /// `None` when the user does not exist.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_balances(
        &self,
        user_id: UserId,
        currency: Option<Currency>,
        consistency: Consistency,
        reader: Reader,
    ) -> Result<Read<Vec<Balance>>, ShardError> {
        let query = Query::Balance { user_id, currency, consistency };
        self.ask(query, reader, |found| match found {
            Found::Balances(balances) => Some(Some(balances)),
            Found::UserNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// The balances at the end of a millisecond of Unix time; `None` when the user does not exist.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_balances_at(
        &self,
        user_id: UserId,
        currency: Option<Currency>,
        at_ms: i64,
        reader: Reader,
    ) -> Result<Read<BalancesAt>, ShardError> {
        let query = Query::BalanceAt { user_id, currency, at_ms };
        self.ask(query, reader, |found| match found {
            Found::Balances(balances) => {
                Some(Some(BalancesAt::Found(balances.into_iter().map(Money::from).collect())))
            }
            Found::RangeTooLarge => Some(Some(BalancesAt::TooDeep)),
            Found::UserNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// `None` when the user does not exist.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_history(&self, query: HistoryQuery, reader: Reader) -> Result<Read<Page>, ShardError> {
        self.ask(Query::History(query), reader, |found| match found {
            Found::History { transactions, has_more: _, goes_on_before } => {
                Some(Some(Page { transactions, goes_on_before }))
            }
            Found::UserNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// `None` when no completed transaction has this id.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_transaction(
        &self,
        id: TransactionId,
        reader: Reader,
    ) -> Result<Read<Box<Transaction>>, ShardError> {
        self.ask(Query::Lookup { id }, reader, |found| match found {
            Found::Transaction(transaction) => Some(Some(transaction)),
            Found::TransactionNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// `None` when the user does not exist.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_holds(&self, query: HoldsQuery, reader: Reader) -> Result<Read<HoldsPage>, ShardError> {
        self.ask(Query::Holds(query), reader, |found| match found {
            Found::Holds { holds, goes_on_before } => Some(Some(HoldsPage { holds, goes_on_before })),
            Found::UserNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// The hold with what its user can spend; `None` when no hold has this id.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_hold(
        &self,
        id: TransactionId,
        reader: Reader,
    ) -> Result<Read<(Box<Hold>, Money)>, ShardError> {
        self.ask(Query::Hold { id }, reader, |found| match found {
            Found::Hold { hold, available } => Some(Some((hold, available))),
            Found::HoldNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// The transfer as it is now; `None` when no transfer has this id.
    ///
    /// # Errors
    /// [`ShardError::NotDone`].
    pub async fn read_transfer(
        &self,
        id: TransactionId,
        reader: Reader,
    ) -> Result<Read<Box<Transfer>>, ShardError> {
        self.ask(Query::Transfer { id }, reader, |found| match found {
            Found::Transfer(transfer) => Some(Some(transfer)),
            Found::TransferNotFound => Some(None),
            _ => None,
        })
        .await
    }

    /// `sort_out` returns `None` for an answer that this query cannot have.
    async fn ask<T>(
        &self,
        query: Query,
        reader: Reader,
        sort_out: fn(Found) -> Option<Option<T>>,
    ) -> Result<Read<T>, ShardError> {
        let Reader { origin, session } = reader;
        let request = ReadRequest { query, session, origin: Some(origin) };
        let Answer { found, source } = self.read(&request).await?;
        let Some(found) = sort_out(found) else {
            error!(slot = request.query.slot().get(), "a node answered another query than it was asked");
            return Err(ShardError::NotDone { why: NotDone::Internal, shard: None, retry_after: SOON });
        };
        Ok(Read { found, source })
    }
}
