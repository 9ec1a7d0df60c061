//! The read path of a node: which database may answer, and what it answers. Nothing here writes.
//!
//! History and lookups are spread over the fresh replicas that have replayed the client's own write, if the
//! client shows a session token. A replica that is behind, fails, cancels the query or is slow is passed over
//! by this read alone. The primary answers instead, where such reads are capped. Only several failures in a
//! row, or an unanswered heartbeat, count against the replica itself. "Not found" on a replica may mean "not
//! yet", so the primary decides that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::PoolError;
use picopay_postgres::is_server_lost;
use picopay_shard_node_config::ReadConfig;
use picopay_shared::id::TransactionId;
use picopay_shared::money::Money;
use picopay_shared::origin::Origin;
use picopay_shared::query::{
    Answer, Consistency, Found, HistoryQuery, HoldsQuery, Query, ReadRequest, Source,
};
use picopay_shared::session::SessionToken;
use picopay_shared::slot::Slot;
use picopay_shared::slot_owner::OwnerRow;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument;
use tracing::field::{DisplayValue, display};

use crate::db::{Primary, Replica, is_pool_lost};
use crate::lane::LaneParts;
use crate::read_pool::Lease;
use crate::replay_wait::{self, NotShown, WaitError};
use crate::replica_lag::{Lag, PrimaryLog};
use crate::slot_owner::{self, Stopped};
use crate::store::{self, LOOKS_MAX, ReadError, Seen};

pub struct Reader {
    shard: String,
    parts: Arc<LaneParts>,
    log: PrimaryLog,
    replicas: Vec<ReplicaInUse>,
    turn: AtomicUsize,
    replica_lag_max: Duration,
    session_wait: Duration,
    replica_timeout: Duration,
    primary_timeout: Duration,
    primary_fallback: Semaphore,
}

struct ReplicaInUse {
    replica: Replica,
    lag: Lag,
    busy: AtomicUsize,
}

struct Busy<'a>(&'a AtomicUsize);

struct NoAnswer {
    reason: String,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing: all its connections are in use.
    Busy,
    /// Nothing yet: this statement failed, or took too long.
    Failed,
    Lost,
}

impl Reader {
    pub fn new(
        shard: &str,
        parts: Arc<LaneParts>,
        log: PrimaryLog,
        replicas: Vec<(Replica, Lag)>,
        config: &ReadConfig,
        primary_timeout: Duration,
    ) -> Self {
        Self {
            shard: shard.to_owned(),
            parts,
            log,
            replicas: replicas
                .into_iter()
                .map(|(replica, lag)| ReplicaInUse { replica, lag, busy: AtomicUsize::new(0) })
                .collect(),
            turn: AtomicUsize::new(0),
            replica_lag_max: config.replica_lag_max,
            session_wait: config.session_wait,
            replica_timeout: config.replica_timeout,
            primary_timeout,
            primary_fallback: Semaphore::new(config.primary_fallback_max),
        }
    }

    pub fn lags(&self) -> Vec<Option<Duration>> {
        let entries = self.replicas.last().map_or(0, |last| last.replica.entry() + 1);
        let mut lags: Vec<Option<Duration>> = vec![None; entries];
        for replica in &self.replicas {
            let freshest = &mut lags[replica.replica.entry()];
            *freshest = [*freshest, replica.lag.get()].into_iter().flatten().min();
        }
        lags
    }

    pub async fn answer(&self, request: &ReadRequest) -> Answer {
        let span = tracing::debug_span!("read", request = of(request));
        let answer = self.find_answer(request).instrument(span).await;
        if let Found::Unavailable { reason } = &answer.found {
            tracing::warn!(reason, request = of(request), "a read was not answered");
        }
        answer
    }

    async fn find_answer(&self, request: &ReadRequest) -> Answer {
        if let Some(reason) = self.parts.primary.expected().refusal() {
            return Answer { found: unavailable(reason), source: Source::Primary };
        }
        let query = &request.query;
        let is_strong = match query {
            Query::Balance { consistency, .. } => *consistency == Consistency::Strong,
            Query::Holds(_) | Query::Hold { .. } => true,
            Query::History(_) | Query::Lookup { .. } => false,
        };
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

    /// `None` when no replica is fresh, or the chosen one has not replayed the client's write, did not answer
    /// in time, or did not find what was asked for.
    async fn answer_from_replica(&self, query: &Query, session: Option<SessionToken>) -> Option<Answer> {
        // A token of another shard is older than the slot's move, and says nothing about this shard's log.
        if session.is_some_and(|token| !token.is_of(&self.shard)) {
            self.note_passed_over("other shard");
            return None;
        }
        let (chosen, lag) = self.next_replica()?;
        let lag_ms = u32::try_from(lag.as_millis()).unwrap_or(u32::MAX);
        let busy = Busy::with(&chosen.busy);
        let asked = timeout(self.replica_timeout, self.ask_replica(&chosen.replica, query, session)).await;
        drop(busy);
        let asked = asked.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time()));
        if asked.is_ok() {
            chosen.replica.readers().note_success();
        }
        match asked {
            Ok(Err(NotShown::Behind)) => self.note_passed_over("behind"),
            Ok(Err(NotShown::Beyond)) => self.note_passed_over("beyond"),
            Ok(Ok(Found::UserNotFound | Found::TransactionNotFound | Found::Moved(_))) => {
                self.note_passed_over("not found");
            }
            Ok(Ok(found)) => return Some(Answer { found, source: Source::Replica { lag_ms } }),
            Err(NoAnswer { reason, fault }) => {
                tracing::debug!(reason, "a replica was passed over");
                self.note_passed_over("failed");
                if fault != Fault::Busy && chosen.replica.readers().note_failure(fault == Fault::Lost) {
                    // So the next reads do not each wait for their own timeout.
                    chosen.lag.forget();
                }
            }
        }
        None
    }

    /// The fresh replica with the fewest reads; equals take turns.
    fn next_replica(&self) -> Option<(&ReplicaInUse, Duration)> {
        let known = self.replicas.iter().filter_map(|replica| Some((replica, replica.lag.get()?)));
        let mut fresh: Vec<_> = known.filter(|(_, lag)| *lag <= self.replica_lag_max).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % fresh.len().max(1);
        fresh.rotate_left(turn);
        fresh.into_iter().min_by_key(|(replica, _)| replica.busy.load(Ordering::Relaxed))
    }

    async fn ask_replica(
        &self,
        replica: &Replica,
        query: &Query,
        session: Option<SessionToken>,
    ) -> Result<Result<Found, NotShown>, NoAnswer> {
        let lease = match session {
            None => replica.readers().lease().await?,
            Some(token) => {
                match replay_wait::wait_for(replica, token.position, &self.log, self.session_wait).await? {
                    Ok(lease) => lease,
                    Err(why) => return Ok(Err(why)),
                }
            }
        };
        Ok(Ok(ask_and_give_back(lease, query).await?))
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
            let lease = primary.readers().lease().await?;
            Ok(ask_and_give_back(lease, query).await?)
        };
        let asked = timeout(self.primary_timeout, asked).await;
        match asked.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time())) {
            Ok(found) => {
                primary.readers().note_success();
                found
            }
            Err(NoAnswer { reason, fault }) => {
                if fault != Fault::Busy {
                    primary.readers().note_failure(fault == Fault::Lost);
                }
                unavailable(reason)
            }
        }
    }
}

impl<'a> Busy<'a> {
    fn with(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl NoAnswer {
    fn not_in_time() -> Self {
        Self { reason: "no answer in time".to_owned(), fault: Fault::Failed }
    }
}

impl From<PoolError> for NoAnswer {
    fn from(error: PoolError) -> Self {
        let fault = if is_pool_lost(&error) { Fault::Lost } else { Fault::Busy };
        Self { reason: error.to_string(), fault }
    }
}

impl From<WaitError> for NoAnswer {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Pool(error) => error.into(),
            WaitError::Read(error) => error.into(),
        }
    }
}

impl From<ReadError> for NoAnswer {
    fn from(error: ReadError) -> Self {
        let is_lost = matches!(&error, ReadError::Database(cause) if is_server_lost(cause));
        Self { reason: error.reason(), fault: if is_lost { Fault::Lost } else { Fault::Failed } }
    }
}

/// The database has finished its answer, whatever it is.
async fn ask_and_give_back(lease: Lease, query: &Query) -> Result<Found, ReadError> {
    let found = ask(&lease, query).await;
    lease.give_back();
    found
}

fn unavailable(reason: String) -> Found {
    Found::Unavailable { reason }
}

fn of(request: &ReadRequest) -> Option<DisplayValue<&Origin>> {
    request.origin.as_ref().map(display)
}

/// One statement each, so that owner and rows are of one moment. Otherwise a slot that moved in between would
/// show half a history.
async fn ask(client: &deadpool_postgres::Client, query: &Query) -> Result<Found, ReadError> {
    match query {
        Query::Balance { user_id, currency, .. } => {
            let seen = store::find_balances(client, *user_id).await?;
            Ok(of_user(user_id.slot(), seen, |balances| {
                Found::Balances(match currency {
                    None => balances,
                    Some(currency) => {
                        let one = balances.into_iter().find(|one| one.balance.currency() == *currency);
                        vec![one.unwrap_or(Money::zero(*currency).into())]
                    }
                })
            }))
        }
        Query::History(history) => find_history(client, history).await,
        Query::Holds(holds) => find_holds(client, holds).await,
        Query::Hold { id } => {
            let Seen { owner, mut found, .. } = store::find_hold(client, *id).await?;
            Ok(moved(id.slot(), owner.as_ref()).unwrap_or_else(|| match found.pop() {
                Some((hold, available)) => Found::Hold { hold: Box::new(hold), available },
                None => Found::HoldNotFound,
            }))
        }
        Query::Lookup { id } => {
            let Seen { owner, mut found, .. } = store::find_transaction(client, *id).await?;
            Ok(moved(id.slot(), owner.as_ref()).unwrap_or_else(|| match found.pop() {
                Some(transaction) => Found::Transaction(Box::new(transaction)),
                None => Found::TransactionNotFound,
            }))
        }
    }
}

fn of_user<T>(slot: Slot, seen: Seen<T>, answer: impl FnOnce(Vec<T>) -> Found) -> Found {
    let stopped = moved(slot, seen.owner.as_ref()).or((!seen.user_exists).then_some(Found::UserNotFound));
    stopped.unwrap_or_else(|| answer(seen.found))
}

fn moved(slot: Slot, owner: Option<&OwnerRow>) -> Option<Found> {
    // No epoch is compared: a read writes nothing that a lost change of owner could spoil.
    match slot_owner::check(slot, 0, owner) {
        Err(Stopped::Moved(moved)) => Some(Found::Moved(moved)),
        Ok(()) | Err(Stopped::StateLost { .. }) => None,
    }
}

async fn find_history(client: &deadpool_postgres::Client, query: &HistoryQuery) -> Result<Found, ReadError> {
    let from = TransactionId::first_at(query.from_ms.unwrap_or(0));
    // Refusals are above all that history lists.
    let to = query.to_ms.map_or(TransactionId::first_refusal(), TransactionId::first_at);
    let before = query.before.map_or(to, |before| before.min(to));
    let limit = usize::from(query.limit);
    // One more than asked for shows whether there is a next page.
    let bounds = (i64::from(query.limit) + 1, if query.takes_short_pages { LOOKS_MAX } else { i64::MAX });
    let page = store::find_history(client, query.user_id, from, before, query.kind, bounds).await?;
    Ok(of_user(query.user_id.slot(), page.transactions, |mut transactions| {
        let is_full = transactions.len() > limit;
        transactions.truncate(limit);
        let last = if is_full { transactions.last().map(|last| last.id) } else { page.looked_down_to };
        Found::History { transactions, has_more: last.is_some(), goes_on_before: last }
    }))
}

async fn find_holds(client: &deadpool_postgres::Client, query: &HoldsQuery) -> Result<Found, ReadError> {
    // No hold has an id of a refusal.
    let before = query.before.unwrap_or(TransactionId::first_refusal());
    let limit = usize::from(query.limit);
    let bounds = (i64::from(query.limit) + 1, LOOKS_MAX);
    let page = store::find_holds(client, query.user_id, before, query.status, bounds).await?;
    Ok(of_user(query.user_id.slot(), page.holds, |mut holds| {
        let is_full = holds.len() > limit;
        holds.truncate(limit);
        let goes_on_before = if is_full { holds.last().map(|last| last.id) } else { page.looked_down_to };
        Found::Holds { holds, goes_on_before }
    }))
}
