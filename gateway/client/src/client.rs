//! The client: typed calls, with a key for every write.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use uuid::Uuid;

use crate::answer::{Balance, BalancesBody, Booked, BookedBody, LookupBody, Transaction};
use crate::asking::Asking;
use crate::error::Error;
use crate::exchange::{BadTarget, Exchange};
use crate::history::{History, HistoryQuery};
use crate::patience::Patience;
use crate::wish::{Payment, Refund};

/// A client of one gateway, or of a balancer before several. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    asking: Asking,
}

impl Client {
    /// Of the gateway at `url`, such as `http://127.0.0.1:8080`.
    pub fn new(url: &str, api_key: &str) -> Result<Self, BadTarget> {
        Ok(Self::over(Exchange::new(url, api_key)?))
    }

    /// Over connections that are there.
    pub fn over(exchange: Exchange) -> Self {
        Self::over_with(exchange, Patience::default())
    }

    fn over_with(exchange: Exchange, patience: Patience) -> Self {
        Self { asking: Asking { exchange: exchange.with_wait(patience.attempt), patience } }
    }

    /// Tries for so long, and so often.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self::over_with(self.asking.exchange, patience)
    }

    /// One user, who reads his own writes: every read of his shows the session token of his last write.
    pub fn user(&self, user_id: i64) -> UserClient {
        UserClient { client: self.clone(), user_id, session: Arc::default() }
    }

    /// Makes a user. Whether he is new: that he was there already is no error.
    pub async fn create_user(&self, user_id: i64) -> Result<bool, Error> {
        let body = format!("{{\"user_id\":{user_id}}}");
        // The id is the key.
        let (answer, _) = self
            .asking
            .until_answered(None, || self.asking.exchange.post("/v1/users", None, body.clone()))
            .await?;
        Ok(answer.status == 201)
    }

    /// Puts money in.
    pub async fn top_up(&self, payment: &Payment) -> Result<Booked, Error> {
        self.write("/v1/topup", payment.key(), payment).await
    }

    /// Takes money out.
    pub async fn charge(&self, payment: &Payment) -> Result<Booked, Error> {
        self.write("/v1/charge", payment.key(), payment).await
    }

    /// Gives money of a charge back.
    pub async fn refund(&self, refund: &Refund) -> Result<Booked, Error> {
        self.write("/v1/refund", refund.key(), refund).await
    }

    /// What a user has, in each currency, as true as the primary knows.
    pub async fn balances(&self, user_id: i64) -> Result<Vec<Balance>, Error> {
        let body: BalancesBody = self.asking.read(&format!("/v1/users/{user_id}/balance"), None).await?;
        Ok(body.balances)
    }

    /// What a user has in one currency, as true as the primary knows.
    pub async fn balance(&self, user_id: i64, currency: &str) -> Result<Balance, Error> {
        self.asking.read(&format!("/v1/users/{user_id}/balance?currency={currency}"), None).await
    }

    /// A user's transactions, newest first.
    pub fn history(&self, query: HistoryQuery) -> History {
        History::new(self.asking.clone(), query, None)
    }

    /// A transaction by its id.
    pub async fn transaction(&self, id: Uuid) -> Result<Transaction, Error> {
        self.look_up(id, None).await
    }

    async fn look_up(&self, id: Uuid, session: Option<&str>) -> Result<Transaction, Error> {
        let body: LookupBody = self.asking.read(&format!("/v1/transactions/{id}"), session).await?;
        Ok(body.transaction)
    }

    async fn write(&self, path: &str, key: Option<Uuid>, wish: &impl Serialize) -> Result<Booked, Error> {
        // One key for all attempts: without it a retry would be a second charge.
        let key = key.unwrap_or_else(Uuid::new_v4);
        let body = serde_json::to_string(wish).map_err(|cause| Error::Unreadable { key: None, cause })?;
        let send = || self.asking.exchange.post(path, Some(key), body.clone());
        let (answer, attempts) = self.asking.until_answered(Some(key), send).await?;
        let read = serde_json::from_slice(&answer.body);
        let BookedBody { transaction, new_balance } =
            read.map_err(|cause| Error::Unreadable { key: Some(key), cause })?;
        let session = answer.session().map(str::to_owned);
        Ok(Booked { transaction, new_balance, is_replayed: answer.is_replayed(), session, attempts })
    }
}

/// One user, who reads his own writes. Clones share the session.
#[derive(Debug, Clone)]
pub struct UserClient {
    client: Client,
    user_id: i64,
    session: Arc<Mutex<Option<String>>>,
}

impl UserClient {
    /// His id.
    pub fn id(&self) -> i64 {
        self.user_id
    }

    /// Puts money in. The payment must be his own.
    pub async fn top_up(&self, payment: &Payment) -> Result<Booked, Error> {
        self.remember(self.client.top_up(payment).await)
    }

    /// Takes money out. The payment must be his own.
    pub async fn charge(&self, payment: &Payment) -> Result<Booked, Error> {
        self.remember(self.client.charge(payment).await)
    }

    /// Gives money of one of his charges back.
    pub async fn refund(&self, refund: &Refund) -> Result<Booked, Error> {
        self.remember(self.client.refund(refund).await)
    }

    /// What he has, in each currency, as true as the primary knows.
    pub async fn balances(&self) -> Result<Vec<Balance>, Error> {
        self.client.balances(self.user_id).await
    }

    /// What he has in one currency, as true as the primary knows.
    pub async fn balance(&self, currency: &str) -> Result<Balance, Error> {
        self.client.balance(self.user_id, currency).await
    }

    /// All his transactions, newest first, with what he has written himself.
    pub fn history(&self) -> History {
        self.history_by(HistoryQuery::of(self.user_id))
    }

    /// The same, by a query that must be about him.
    pub fn history_by(&self, query: HistoryQuery) -> History {
        History::new(self.client.asking.clone(), query, self.session())
    }

    /// One of his transactions.
    pub async fn transaction(&self, id: Uuid) -> Result<Transaction, Error> {
        self.client.look_up(id, self.session().as_deref()).await
    }

    /// The token of his last write.
    pub fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, written: Result<Booked, Error>) -> Result<Booked, Error> {
        if let Ok(Booked { session: Some(session), .. }) = &written {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        }
        written
    }
}
