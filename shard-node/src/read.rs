//! The read path of a node: which database may answer, and what it says. Nothing here writes.
//!
//! History and lookups go to a replica while one is fresh enough; a replica that fails or is slow is passed
//! over for the primary, where such reads are capped. "Not found" on a replica may only mean "not yet", so the
//! primary has the last word on it.

use std::sync::Arc;
use std::time::Duration;

use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::query::{Answer, Consistency, Found, HistoryQuery, Query, Source};
use picopay_shared::slot::{Slot, UserId};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use crate::db::{Primary, Replica, describe, is_server_lost};
use crate::lane::LaneParts;
use crate::replica_lag::Lag;
use crate::slot_owner::{self, Stopped};
use crate::store::{self, OwnerRow, ReadError};

/// Reads of one shard.
pub struct Reader {
    parts: Arc<LaneParts>,
    replicas: Vec<(Replica, Lag)>,
    max_replica_lag: Duration,
    replica_timeout: Duration,
    primary_timeout: Duration,
    primary_fallback: Semaphore,
}

/// Why a database gave no answer. For the log.
struct NoAnswer(String);

impl Reader {
    /// Reads through `parts.primary` and `replicas`.
    pub fn new(
        parts: Arc<LaneParts>,
        replicas: Vec<(Replica, Lag)>,
        config: &crate::config::ReadConfig,
        primary_timeout: Duration,
    ) -> Self {
        Self {
            parts,
            replicas,
            max_replica_lag: config.max_replica_lag,
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
    pub async fn answer(&self, query: &Query) -> Answer {
        let is_strong = matches!(query, Query::Balance { consistency: Consistency::Strong, .. });
        if !is_strong && let Some(answer) = self.answer_from_replica(query).await {
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

    /// `None` when no replica is fresh, none answered in time, or the one that did had not heard of it.
    async fn answer_from_replica(&self, query: &Query) -> Option<Answer> {
        let (replica, lag) = self
            .replicas
            .iter()
            .filter_map(|(replica, lag)| Some((replica, lag.get()?)))
            .filter(|(_, lag)| *lag <= self.max_replica_lag)
            .min_by_key(|(_, lag)| *lag)?;
        let asked = async {
            let client = replica.reader().await.map_err(|error| NoAnswer(error.to_string()))?;
            ask(&client, query).await.map_err(no_answer)
        };
        match timeout(self.replica_timeout, asked).await {
            Ok(Ok(Found::UserNotFound | Found::TransactionNotFound | Found::Moved(_))) => None,
            Ok(Ok(found)) => {
                let lag_ms = u32::try_from(lag.as_millis()).unwrap_or(u32::MAX);
                Some(Answer { found, source: Source::Replica { lag_ms } })
            }
            Ok(Err(NoAnswer(reason))) => {
                tracing::debug!(reason, "a replica was passed over");
                replica.drop_pool();
                None
            }
            Err(_) => {
                tracing::debug!("a replica was too slow");
                replica.drop_pool();
                None
            }
        }
    }

    async fn ask_primary(&self, query: &Query) -> Found {
        let primary: &Primary = &self.parts.primary;
        if primary.is_silent() {
            return unavailable("the primary does not answer".to_owned());
        }
        let asked = async {
            let client = primary.reader().await.map_err(|error| NoAnswer(error.to_string()))?;
            ask(&client, query).await.map_err(|error| {
                if matches!(&error, ReadError::Database(cause) if is_server_lost(cause)) {
                    primary.drop_pool();
                }
                no_answer(error)
            })
        };
        match timeout(self.primary_timeout, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(NoAnswer(reason))) => unavailable(reason),
            Err(_) => {
                primary.drop_pool();
                unavailable("the primary did not answer in time".to_owned())
            }
        }
    }
}

fn unavailable(reason: String) -> Found {
    tracing::warn!(reason, "a read was not answered");
    Found::Unavailable { reason }
}

fn no_answer(error: ReadError) -> NoAnswer {
    NoAnswer(match error {
        ReadError::Database(error) => describe(&error),
        corrupt @ ReadError::Corrupt(_) => corrupt.to_string(),
    })
}

async fn ask(client: &deadpool_postgres::Client, query: &Query) -> Result<Found, ReadError> {
    match query {
        Query::Balance { user_id, currency, .. } => {
            if let Some(stop) = find_user(client, *user_id).await? {
                return Ok(stop);
            }
            let balances = store::find_balances(client, *user_id).await?;
            Ok(Found::Balances(match currency {
                None => balances,
                Some(currency) => {
                    let one = balances.into_iter().find(|balance| balance.currency() == *currency);
                    vec![one.unwrap_or(Money::zero(*currency))]
                }
            }))
        }
        Query::History(history) => find_history(client, history).await,
        Query::Lookup { id } => {
            if let Some(moved) = moved(id.slot(), store::find_owner(client, id.slot()).await?.as_ref()) {
                return Ok(moved);
            }
            let found = store::find_transaction(client, *id).await?;
            Ok(found.map_or(Found::TransactionNotFound, |found| Found::Transaction(Box::new(found))))
        }
    }
}

/// What to answer when the slot is not here or the user does not exist.
async fn find_user(client: &deadpool_postgres::Client, user: UserId) -> Result<Option<Found>, ReadError> {
    let (owner, user_exists) = store::find_user(client, user).await?;
    Ok(moved(user.slot(), owner.as_ref()).or((!user_exists).then_some(Found::UserNotFound)))
}

fn moved(slot: Slot, owner: Option<&OwnerRow>) -> Option<Found> {
    // No epoch is compared: a read writes nothing that a lost change of owners could spoil.
    match slot_owner::check(slot, 0, owner) {
        Err(Stopped::Moved(moved)) => Some(Found::Moved(moved)),
        Ok(()) | Err(Stopped::StateLost { .. }) => None,
    }
}

async fn find_history(client: &deadpool_postgres::Client, query: &HistoryQuery) -> Result<Found, ReadError> {
    if let Some(stop) = find_user(client, query.user_id).await? {
        return Ok(stop);
    }
    let from = TransactionId::first_at(query.from_ms.unwrap_or(0));
    let to = query.to_ms.map_or(TransactionId::from_uuid(Uuid::max()), TransactionId::first_at);
    let before = query.before.map_or(to, |before| before.min(to));
    let limit = usize::from(query.limit);
    // One more than asked for tells whether there is a next page.
    let asked = i64::from(query.limit) + 1;
    let mut transactions =
        store::find_history(client, query.user_id, from, before, query.kind, asked).await?;
    let has_more = transactions.len() > limit;
    transactions.truncate(limit);
    Ok(Found::History { transactions, has_more })
}
