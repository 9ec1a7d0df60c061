//! The read path of a node: which database may answer, and what it says. Nothing here writes.
//!
//! History and lookups go to a replica while one is fresh enough and, for a client that shows a session token, has
//! replayed the client's own last write. A replica that is behind, fails, cancels the query or is slow is passed over
//! for the primary, once, where such reads are capped. "Not found" on a replica may only mean "not yet", so the primary
//! has the last word on it.

use std::sync::Arc;
use std::time::Duration;

use picopay_postgres::is_server_lost;
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::query::{Answer, Consistency, Found, HistoryQuery, Query, ReadRequest, Source};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::Slot;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::db::{Primary, Replica, is_pool_lost};
use crate::lane::LaneParts;
use crate::replay_wait;
use crate::replica_lag::Lag;
use crate::slot_owner::{self, Stopped};
use crate::store::{self, OwnerRow, ReadError, Seen};

/// Reads of one shard.
pub struct Reader {
    shard: String,
    parts: Arc<LaneParts>,
    replicas: Vec<(Replica, Lag)>,
    max_replica_lag: Duration,
    session_wait: Duration,
    replica_timeout: Duration,
    primary_timeout: Duration,
    primary_fallback: Semaphore,
}

/// Why a database gave no answer.
struct NoAnswer {
    /// For the log.
    reason: String,
    /// Whether its connections are of no more use: it is gone, or one of them still waits.
    is_lost: bool,
}

impl Reader {
    /// Reads of `shard` through `parts.primary` and `replicas`.
    pub fn new(
        shard: &str,
        parts: Arc<LaneParts>,
        replicas: Vec<(Replica, Lag)>,
        config: &crate::config::ReadConfig,
        primary_timeout: Duration,
    ) -> Self {
        Self {
            shard: shard.to_owned(),
            parts,
            replicas,
            max_replica_lag: config.max_replica_lag,
            session_wait: config.session_wait,
            replica_timeout: config.replica_timeout,
            primary_timeout,
            primary_fallback: Semaphore::new(config.primary_fallback_max),
        }
    }

    /// Lag of each replica.
    pub fn lags(&self) -> impl Iterator<Item = Option<Duration>> {
        self.replicas.iter().map(|(_, lag)| lag.get())
    }

    /// Answers from the right database.
    pub async fn answer(&self, request: &ReadRequest) -> Answer {
        if let Some(reason) = self.parts.primary.expected().refusal() {
            return Answer { found: unavailable(reason), source: Source::Primary };
        }
        let query = &request.query;
        let is_strong = matches!(query, Query::Balance { consistency: Consistency::Strong, .. });
        if !is_strong && let Some(answer) = self.answer_from_replica(query, request.session).await {
            self.parts.metrics.reads.with_label_values(&["replica"]).inc();
            return answer;
        }
        self.parts.metrics.reads.with_label_values(&["primary"]).inc();
        let found = if is_strong {
            self.ask_primary(query).await
        } else {
            match timeout(self.primary_timeout, self.primary_fallback.acquire()).await {
                Ok(_permit) => self.ask_primary(query).await,
                Err(_) => unavailable("too many reads wait for the primary".to_owned()),
            }
        };
        Answer { found, source: Source::Primary }
    }

    /// `None` when no replica is fresh, or the freshest one has not replayed the client's own write, did not answer in
    /// time, or had not heard of what was asked for.
    async fn answer_from_replica(&self, query: &Query, session: Option<SessionToken>) -> Option<Answer> {
        // A token of another shard is from before the slot was moved, and says nothing about this shard's log.
        if session.is_some_and(|token| !token.is_of(&self.shard)) {
            self.note_passed_over("other shard");
            return None;
        }
        let (replica, lag) = self.freshest_replica()?;
        let lag_ms = u32::try_from(lag.get()?.as_millis()).unwrap_or(u32::MAX);
        let asked = timeout(self.replica_timeout, self.ask_replica(replica, query, session)).await;
        match asked.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time())) {
            Ok(None) => self.note_passed_over("behind"),
            Ok(Some(Found::UserNotFound | Found::TransactionNotFound | Found::Moved(_))) => {
                self.note_passed_over("not found");
            }
            Ok(Some(found)) => return Some(Answer { found, source: Source::Replica { lag_ms } }),
            Err(NoAnswer { reason, is_lost }) => {
                tracing::debug!(reason, "a replica was passed over");
                self.note_passed_over("failed");
                if is_lost {
                    // The next reads do not find out for themselves, each after its own timeout.
                    lag.forget();
                    replica.drop_pool();
                }
            }
        }
        None
    }

    fn freshest_replica(&self) -> Option<&(Replica, Lag)> {
        let known = self.replicas.iter().filter_map(|replica| Some((replica, replica.1.get()?)));
        let fresh = known.filter(|(_, lag)| *lag <= self.max_replica_lag);
        fresh.min_by_key(|(_, lag)| *lag).map(|(replica, _)| replica)
    }

    /// `None` when the replica has not replayed the client's own write within `session_wait`.
    async fn ask_replica(
        &self,
        replica: &Replica,
        query: &Query,
        session: Option<SessionToken>,
    ) -> Result<Option<Found>, NoAnswer> {
        let deadline = Instant::now() + self.session_wait;
        let client = replica
            .reader()
            .await
            .map_err(|error| NoAnswer { reason: error.to_string(), is_lost: is_pool_lost(&error) })?;
        if let Some(token) = session
            && !replay_wait::has_replayed(&client, token.position, deadline).await?
        {
            return Ok(None);
        }
        Ok(Some(ask(&client, query).await?))
    }

    fn note_passed_over(&self, reason: &str) {
        self.parts.metrics.passed_over.with_label_values(&[reason]).inc();
    }

    async fn ask_primary(&self, query: &Query) -> Found {
        let primary: &Primary = &self.parts.primary;
        if let Err(reason) = primary.may_read() {
            return unavailable(reason);
        }
        let asked = async {
            let client = primary
                .reader()
                .await
                .map_err(|error| NoAnswer { reason: error.to_string(), is_lost: is_pool_lost(&error) })?;
            Ok(ask(&client, query).await?)
        };
        let asked = timeout(self.primary_timeout, asked).await;
        asked.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time())).unwrap_or_else(
            |NoAnswer { reason, is_lost }| {
                if is_lost {
                    primary.drop_pool();
                }
                unavailable(reason)
            },
        )
    }
}

impl NoAnswer {
    fn not_in_time() -> Self {
        Self { reason: "no answer in time".to_owned(), is_lost: true }
    }
}

impl From<ReadError> for NoAnswer {
    fn from(error: ReadError) -> Self {
        let is_lost = matches!(&error, ReadError::Database(cause) if is_server_lost(cause));
        Self { reason: error.reason(), is_lost }
    }
}

fn unavailable(reason: String) -> Found {
    tracing::warn!(reason, "a read was not answered");
    Found::Unavailable { reason }
}

/// One statement each, so that owner and rows are of one moment: a slot that came or went between two would show a
/// history without its older or newer half.
async fn ask(client: &deadpool_postgres::Client, query: &Query) -> Result<Found, ReadError> {
    match query {
        Query::Balance { user_id, currency, .. } => {
            let seen = store::find_balances(client, *user_id).await?;
            Ok(of_user(user_id.slot(), seen, |balances| {
                Found::Balances(match currency {
                    None => balances,
                    Some(currency) => {
                        let one = balances.into_iter().find(|balance| balance.currency() == *currency);
                        vec![one.unwrap_or(Money::zero(*currency))]
                    }
                })
            }))
        }
        Query::History(history) => find_history(client, history).await,
        Query::Lookup { id } => {
            let Seen { owner, mut found, .. } = store::find_transaction(client, *id).await?;
            Ok(moved(id.slot(), owner.as_ref()).unwrap_or_else(|| match found.pop() {
                Some(transaction) => Found::Transaction(Box::new(transaction)),
                None => Found::TransactionNotFound,
            }))
        }
    }
}

/// `answer` to a user's rows, unless the slot is not here or the user does not exist.
fn of_user<T>(slot: Slot, seen: Seen<T>, answer: impl FnOnce(Vec<T>) -> Found) -> Found {
    let stopped = moved(slot, seen.owner.as_ref()).or((!seen.user_exists).then_some(Found::UserNotFound));
    stopped.unwrap_or_else(|| answer(seen.found))
}

fn moved(slot: Slot, owner: Option<&OwnerRow>) -> Option<Found> {
    // No epoch is compared: a read writes nothing that a lost change of owners could spoil.
    match slot_owner::check(slot, 0, owner) {
        Err(Stopped::Moved(moved)) => Some(Found::Moved(moved)),
        Ok(()) | Err(Stopped::StateLost { .. }) => None,
    }
}

async fn find_history(client: &deadpool_postgres::Client, query: &HistoryQuery) -> Result<Found, ReadError> {
    let from = TransactionId::first_at(query.from_ms.unwrap_or(0));
    let to = query.to_ms.map_or(TransactionId::from_uuid(Uuid::max()), TransactionId::first_at);
    let before = query.before.map_or(to, |before| before.min(to));
    let limit = usize::from(query.limit);
    // One more than asked for tells whether there is a next page.
    let asked = i64::from(query.limit) + 1;
    let seen = store::find_history(client, query.user_id, from, before, query.kind, asked).await?;
    Ok(of_user(query.user_id.slot(), seen, |mut transactions| {
        let has_more = transactions.len() > limit;
        transactions.truncate(limit);
        Found::History { transactions, has_more }
    }))
}
