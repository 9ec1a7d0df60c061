//! The client: typed calls, with a key for every write.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::aggregates::{BalanceAt, BalancesAtBody, Sums, SumsQuery, Totals};
use crate::answer::{
    Balance, BalancesBody, Booked, BookedBody, Done, Held, HeldBody, Hold, HoldStatus, LookupBody, Received,
    Transaction, Transfer, TransferBody, Transferred, TransferredBody,
};
use crate::asking::Asking;
use crate::batch::Operation;
use crate::error::Error;
use crate::exchange::{BadTarget, Exchange};
use crate::history::HistoryQuery;
use crate::pages::{Pages, encode};
use crate::patience::Patience;
use crate::tls::Tls;
use crate::wish::{Capture, NewHold, NewTransfer, Payment, Refund, Void};

/// A client of one gateway, or of a balancer before several. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    asking: Asking,
}

impl Client {
    /// A client of the gateway at `url`, such as `http://127.0.0.1:8080`. For `https` the authorities count that the
    /// system trusts.
    pub fn new(url: &str, api_key: &str) -> Result<Self, BadTarget> {
        Ok(Self::over(Exchange::new(url, api_key)?))
    }

    /// The same, with authorities or a certificate of one's own for `https`.
    pub fn with_tls(url: &str, api_key: &str, tls: &Tls) -> Result<Self, BadTarget> {
        Ok(Self::over(Exchange::with_tls(url, api_key, tls)?))
    }

    /// A client that uses this [`Exchange`].
    pub fn over(exchange: Exchange) -> Self {
        Self::over_with(exchange, Patience::default())
    }

    fn over_with(exchange: Exchange, patience: Patience) -> Self {
        Self { asking: Asking { exchange: exchange.with_wait(patience.attempt), patience } }
    }

    /// Sets how long and how often to try.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self::over_with(self.asking.exchange, patience)
    }

    /// A handle for one user, whose reads see the writes of this handle: they show the session token of the
    /// last one.
    pub fn user(&self, user_id: i64) -> UserClient {
        UserClient { client: self.clone(), user_id, session: Arc::default() }
    }

    /// Creates a user. Returns whether the user is new; an existing one is no error.
    pub async fn create_user(&self, user_id: i64) -> Result<bool, Error> {
        let body = format!("{{\"user_id\":{user_id}}}");
        // The id is the key.
        let (answer, _) = self
            .asking
            .until_answered(None, || self.asking.exchange.post("/v1/users", None, body.clone()))
            .await?;
        Ok(answer.status == 201)
    }

    /// Adds money to a user's balance.
    pub async fn top_up(&self, payment: &Payment) -> Result<Booked, Error> {
        self.write("/v1/topup", payment.key(), payment).await
    }

    /// Takes money from a user's balance.
    pub async fn charge(&self, payment: &Payment) -> Result<Booked, Error> {
        self.write("/v1/charge", payment.key(), payment).await
    }

    /// Gives back money of a charge.
    pub async fn refund(&self, refund: &Refund) -> Result<Booked, Error> {
        self.write("/v1/refund", refund.key(), refund).await
    }

    /// Reserves money for a charge to come.
    pub async fn hold(&self, hold: &NewHold) -> Result<Held, Error> {
        let (body, received): (HeldBody, _) = self.send("/v1/holds", hold.key(), json(hold)?).await?;
        Ok(body.received(received))
    }

    /// Charges what a hold reserves.
    pub async fn capture(&self, capture: &Capture) -> Result<Booked, Error> {
        let (body, received): (BookedBody, _) =
            self.send(&capture.path(), capture.key(), capture.body()).await?;
        Ok(body.received(received))
    }

    /// Gives a hold back.
    pub async fn void(&self, void: &Void) -> Result<Held, Error> {
        let (body, received): (HeldBody, _) = self.send(&void.path(), void.key(), "{}".to_owned()).await?;
        Ok(body.received(received))
    }

    /// A hold as it is now, from the primary.
    pub async fn look_at_hold(&self, id: Uuid) -> Result<Hold, Error> {
        let body: HeldBody = self.asking.read(&format!("/v1/holds/{id}"), None).await?;
        Ok(body.hold)
    }

    /// A user's holds, newest first, from the primary: all of them, or those with this status now.
    pub fn holds(&self, user_id: i64, status: Option<HoldStatus>) -> Pages<Hold> {
        let status = status.map(|status| format!("&status={}", status.as_str())).unwrap_or_default();
        Pages::new(self.asking.clone(), format!("/v1/holds?user_id={user_id}&limit=100{status}"), None)
    }

    /// Moves money to another user, exactly once. The answer comes within some two seconds: a transfer that is still pending
    /// then goes on by itself, whatever breaks.
    pub async fn transfer(&self, transfer: &NewTransfer) -> Result<Transferred, Error> {
        let (body, received): (TransferredBody, _) =
            self.send("/v1/transfers", transfer.key(), json(transfer)?).await?;
        Ok(body.received(received))
    }

    /// A transfer as it is now, from the primary.
    pub async fn look_at_transfer(&self, id: Uuid) -> Result<Transfer, Error> {
        let body: TransferBody = self.asking.read(&format!("/v1/transfers/{id}"), None).await?;
        Ok(body.transfer)
    }

    /// Sends 1 to 500 operations in one request. Each is answered for itself, in the order of the operations,
    /// and those of one user happen in that order. An operation that was not done, or whose outcome is unknown,
    /// is sent again under its key; it then comes after those that were done.
    ///
    /// # Errors
    /// When the gateway refused the request as a whole: nothing of it happened.
    pub async fn batch(&self, operations: &[Operation]) -> Result<Vec<Result<Done, Error>>, Error> {
        self.asking.batch(operations).await
    }

    /// A user's balances in all currencies, from the primary.
    pub async fn balances(&self, user_id: i64) -> Result<Vec<Balance>, Error> {
        let body: BalancesBody = self.asking.read(&format!("/v1/users/{user_id}/balance"), None).await?;
        Ok(body.balances)
    }

    /// A user's balance in one currency, from the primary.
    pub async fn balance(&self, user_id: i64, currency: &str) -> Result<Balance, Error> {
        self.asking.read(&format!("/v1/users/{user_id}/balance?currency={currency}"), None).await
    }

    /// A user's balances in all currencies as they were at the end of this millisecond (RFC 3339).
    pub async fn balances_at(&self, user_id: i64, time: &str) -> Result<Vec<BalanceAt>, Error> {
        self.look_back(user_id, time, None).await
    }

    /// What transactions of many users add up to, by currency and kind, over all shards.
    pub async fn sums(&self, query: &SumsQuery) -> Result<Sums, Error> {
        let body = json(query)?;
        let send = || self.asking.exchange.post("/v1/sums", None, body.clone());
        let (answer, _) = self.asking.until_answered(None, send).await?;
        serde_json::from_slice(&answer.body).map_err(|cause| Error::Unreadable { key: None, cause })
    }

    /// What all users have together, by currency, over all shards. The key needs the scope `admin`.
    pub async fn totals(&self) -> Result<Totals, Error> {
        self.asking.read("/v1/totals", None).await
    }

    async fn look_back(
        &self,
        user_id: i64,
        time: &str,
        session: Option<&str>,
    ) -> Result<Vec<BalanceAt>, Error> {
        let path = format!("/v1/users/{user_id}/balance?at={}", encode(time));
        let body: BalancesAtBody = self.asking.read(&path, session).await?;
        Ok(body.balances)
    }

    /// A user's transactions, newest first.
    pub fn history(&self, query: &HistoryQuery) -> Pages<Transaction> {
        Pages::new(self.asking.clone(), query.path(), None)
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
        let (body, received): (BookedBody, _) = self.send(path, key, json(wish)?).await?;
        Ok(body.received(received))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<Uuid>,
        body: String,
    ) -> Result<(T, Received), Error> {
        // One key for all attempts: without it a retry would be a second charge.
        let key = key.unwrap_or_else(Uuid::new_v4);
        let send = || self.asking.exchange.post(path, Some(key), body.clone());
        let (answer, attempts) = self.asking.until_answered(Some(key), send).await?;
        let read = serde_json::from_slice(&answer.body);
        let body = read.map_err(|cause| Error::Unreadable { key: Some(key), cause })?;
        let session = answer.session().map(str::to_owned);
        Ok((body, Received { is_replayed: answer.is_replayed(), session, attempts }))
    }
}

fn json(wish: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(wish).map_err(|cause| Error::Unreadable { key: None, cause })
}

/// One user, whose reads see the writes of this handle. Clones share the session.
#[derive(Debug, Clone)]
pub struct UserClient {
    client: Client,
    user_id: i64,
    session: Arc<Mutex<Option<String>>>,
}

impl UserClient {
    /// The id of the user.
    pub fn id(&self) -> i64 {
        self.user_id
    }

    /// Adds money. The payment must be for this user.
    pub async fn top_up(&self, payment: &Payment) -> Result<Booked, Error> {
        self.remember(self.client.top_up(payment).await)
    }

    /// Takes money. The payment must be for this user.
    pub async fn charge(&self, payment: &Payment) -> Result<Booked, Error> {
        self.remember(self.client.charge(payment).await)
    }

    /// Gives back money of this user's charge.
    pub async fn refund(&self, refund: &Refund) -> Result<Booked, Error> {
        self.remember(self.client.refund(refund).await)
    }

    /// Reserves money. The hold must be for this user.
    pub async fn hold(&self, hold: &NewHold) -> Result<Held, Error> {
        let taken = self.client.hold(hold).await?;
        self.keep(taken.session.as_deref());
        Ok(taken)
    }

    /// Charges what this user's hold reserves.
    pub async fn capture(&self, capture: &Capture) -> Result<Booked, Error> {
        self.remember(self.client.capture(capture).await)
    }

    /// Gives this user's hold back.
    pub async fn void(&self, void: &Void) -> Result<Held, Error> {
        let held = self.client.void(void).await?;
        self.keep(held.session.as_deref());
        Ok(held)
    }

    /// Moves this user's money to another user.
    pub async fn transfer(&self, transfer: &NewTransfer) -> Result<Transferred, Error> {
        let moved = self.client.transfer(transfer).await?;
        self.keep(moved.session.as_deref());
        Ok(moved)
    }

    /// The user's holds, newest first, from the primary: all of them, or those with this status now.
    pub fn holds(&self, status: Option<HoldStatus>) -> Pages<Hold> {
        self.client.holds(self.user_id, status)
    }

    /// The user's balances in all currencies, from the primary.
    pub async fn balances(&self) -> Result<Vec<Balance>, Error> {
        self.client.balances(self.user_id).await
    }

    /// The user's balance in one currency, from the primary.
    pub async fn balance(&self, currency: &str) -> Result<Balance, Error> {
        self.client.balance(self.user_id, currency).await
    }

    /// The user's balances as they were at the end of this millisecond (RFC 3339), including the writes of this
    /// handle.
    pub async fn balances_at(&self, time: &str) -> Result<Vec<BalanceAt>, Error> {
        self.client.look_back(self.user_id, time, self.session().as_deref()).await
    }

    /// The user's transactions, newest first, including the writes of this handle.
    pub fn history(&self) -> Pages<Transaction> {
        self.history_by(&HistoryQuery::of(self.user_id))
    }

    /// The same by a query, which must be about this user.
    pub fn history_by(&self, query: &HistoryQuery) -> Pages<Transaction> {
        Pages::new(self.client.asking.clone(), query.path(), self.session())
    }

    /// One of the user's transactions.
    pub async fn transaction(&self, id: Uuid) -> Result<Transaction, Error> {
        self.client.look_up(id, self.session().as_deref()).await
    }

    /// The session token of the last write; `None` before it.
    pub fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, written: Result<Booked, Error>) -> Result<Booked, Error> {
        if let Ok(booked) = &written {
            self.keep(booked.session.as_deref());
        }
        written
    }

    fn keep(&self, session: Option<&str>) {
        if let Some(session) = session {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.to_owned());
        }
    }
}
