//! The read path of a node: which database may answer, and what it answers. Nothing here writes.
//!
//! History and lookups are spread over the fresh replicas that have replayed the client's own write, if the
//! client shows a session token. A replica that is behind, fails, cancels the query or is slow is passed over
//! by this read alone. The primary answers instead, where such reads are capped. Only several failures in a
//! row, or an unanswered heartbeat, count against the replica itself. "Not found" on a replica may mean "not
//! yet", so the primary decides that.
//!
//! Reads that come together are asked together (`read/together.rs`). What holds up the others is then asked
//! alone, as below.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::PoolError;
use picopay_postgres::is_server_lost;
use picopay_shard_node_config::ReadConfig;
use picopay_shared::origin::Origin;
use picopay_shared::query::{Answer, Consistency, Found, Query, ReadRequest, Source};
use picopay_shared::session::SessionToken;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument;
use tracing::field::{DisplayValue, display};

use crate::db::{Primary, Replica, is_pool_lost};
use crate::lane::LaneParts;
use crate::read_pool::Lease;
use crate::replay_wait::{self, NotShown, WaitError};
use crate::replica_lag::{Lag, PrimaryLog};
use crate::store::ReadError;

mod aggregates;
mod company;
mod statements;
mod together;

use self::company::{Company, Pause};

/// Sums and totals at once. Each reads for as long as seconds and fills a processor of its database. Others wait.
const AGGREGATES_MAX: usize = 2;

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
    aggregates: Semaphore,
    company: Company,
    primary_pause: Pause,
}

struct ReplicaInUse {
    replica: Replica,
    lag: Lag,
    busy: AtomicUsize,
    pause: Pause,
}

struct Busy<'a> {
    count: &'a AtomicUsize,
    reads: usize,
}

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
                .map(|(replica, lag)| ReplicaInUse {
                    replica,
                    lag,
                    busy: AtomicUsize::new(0),
                    pause: Pause::default(),
                })
                .collect(),
            turn: AtomicUsize::new(0),
            replica_lag_max: config.replica_lag_max,
            session_wait: config.session_wait,
            replica_timeout: config.replica_timeout,
            primary_timeout,
            primary_fallback: Semaphore::new(config.primary_fallback_max),
            aggregates: Semaphore::new(AGGREGATES_MAX),
            company: Company::default(),
            primary_pause: Pause::default(),
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
        log_unanswered(request, &answer);
        answer
    }

    async fn find_answer(&self, request: &ReadRequest) -> Answer {
        if let Some(reason) = self.parts.primary.expected().refusal() {
            return Answer { found: unavailable(reason), source: Source::Primary };
        }
        let query = &request.query;
        let is_strong = is_strong(query);
        if !is_strong && let Some(answer) = self.answer_from_replica(query, request.session).await {
            return answer;
        }
        let found =
            if is_strong { self.ask_primary(query).await } else { self.ask_primary_capped(query).await };
        Answer { found, source: Source::Primary }
    }

    /// `None` when no replica is fresh, or the chosen one has not replayed the client's write, did not answer
    /// in time, or did not find what was asked for.
    async fn answer_from_replica(&self, query: &Query, session: Option<SessionToken>) -> Option<Answer> {
        if self.is_of_another_shard(session) {
            return None;
        }
        let (chosen, source) = self.next_replica()?;
        let busy = Busy::with(&chosen.busy, 1);
        let asked = timeout(self.replica_timeout, self.ask_replica(&chosen.replica, query, session)).await;
        drop(busy);
        let asked = asked.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time()));
        match asked {
            Ok(found) => {
                chosen.replica.readers().note_success();
                self.of_replica(found, source)
            }
            Err(no_answer) => {
                self.note_failed(chosen, no_answer);
                None
            }
        }
    }

    fn of_replica(&self, found: Result<Found, NotShown>, source: Source) -> Option<Answer> {
        match found {
            Err(NotShown::Behind) => self.note_passed_over("behind"),
            Err(NotShown::Beyond) => self.note_passed_over("beyond"),
            Ok(Found::UserNotFound | Found::TransactionNotFound | Found::Moved(_)) => {
                self.note_passed_over("not found");
            }
            // What a replica has spoilt, the primary may have whole.
            Ok(Found::Corrupt { .. }) => self.note_passed_over("failed"),
            Ok(found) => {
                self.parts.metrics.reads.with_label_values(&["replica"]).inc();
                return Some(Answer { found, source });
            }
        }
        None
    }

    fn note_failed(&self, chosen: &ReplicaInUse, NoAnswer { reason, fault }: NoAnswer) {
        tracing::debug!(reason, "a replica was passed over");
        self.note_passed_over("failed");
        if fault != Fault::Busy && chosen.replica.readers().note_failure(fault == Fault::Lost) {
            // So the next reads do not each wait for their own timeout.
            chosen.lag.forget();
        }
    }

    /// A token of another shard is older than the slot's move, and says nothing about this shard's log.
    fn is_of_another_shard(&self, session: Option<SessionToken>) -> bool {
        let is_other = session.is_some_and(|token| !token.is_of(&self.shard));
        if is_other {
            self.note_passed_over("other shard");
        }
        is_other
    }

    /// The fresh replica with the fewest reads; equals take turns.
    fn next_replica(&self) -> Option<(&ReplicaInUse, Source)> {
        let known = self.replicas.iter().filter_map(|replica| Some((replica, replica.lag.get()?)));
        let mut fresh: Vec<_> = known.filter(|(_, lag)| *lag <= self.replica_lag_max).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % fresh.len().max(1);
        fresh.rotate_left(turn);
        let (chosen, lag) =
            fresh.into_iter().min_by_key(|(replica, _)| replica.busy.load(Ordering::Relaxed))?;
        let lag_ms = u32::try_from(lag.as_millis()).unwrap_or(u32::MAX);
        Some((chosen, Source::Replica { lag_ms }))
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
        Ok(Ok(self.ask_and_give_back(lease, query).await?))
    }

    fn note_passed_over(&self, reason: &str) {
        self.parts.metrics.passed_over.with_label_values(&[reason]).inc();
    }

    async fn ask_primary_capped(&self, query: &Query) -> Found {
        match timeout(self.primary_timeout, self.primary_fallback.acquire()).await {
            Ok(_permit) => self.ask_primary(query).await,
            Err(_) => too_many(),
        }
    }

    async fn ask_primary(&self, query: &Query) -> Found {
        self.parts.metrics.reads.with_label_values(&["primary"]).inc();
        let primary: &Primary = &self.parts.primary;
        if let Err(reason) = primary.may_read() {
            return unavailable(reason);
        }
        let asked = async {
            let lease = primary.readers().lease().await?;
            self.ask_and_give_back(lease, query).await
        };
        let asked = timeout(self.primary_timeout, asked).await;
        match asked.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time())) {
            Ok(found) => {
                primary.readers().note_success();
                found
            }
            Err(no_answer) => {
                self.note_primary_failed(&no_answer);
                unavailable(no_answer.reason)
            }
        }
    }

    fn note_primary_failed(&self, no_answer: &NoAnswer) {
        if no_answer.fault != Fault::Busy {
            self.parts.primary.readers().note_failure(no_answer.fault == Fault::Lost);
        }
    }

    async fn ask_and_give_back(&self, lease: Lease, query: &Query) -> Result<Found, NoAnswer> {
        let _watch = self.company.watch(query);
        let asked = statements::ask(&lease, query).await;
        // The database has finished its answer, whatever it is.
        lease.give_back();
        Ok(asked?)
    }
}

impl<'a> Busy<'a> {
    fn with(count: &'a AtomicUsize, reads: usize) -> Self {
        count.fetch_add(reads, Ordering::Relaxed);
        Self { count, reads }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.reads, Ordering::Relaxed);
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

fn is_strong(query: &Query) -> bool {
    match query {
        Query::Balance { consistency, .. } => *consistency == Consistency::Strong,
        Query::Holds(_) | Query::Hold { .. } | Query::Transfer { .. } => true,
        Query::History(_) | Query::Lookup { .. } | Query::BalanceAt { .. } => false,
    }
}

fn log_unanswered(request: &ReadRequest, answer: &Answer) {
    match &answer.found {
        Found::Unavailable { reason } => {
            tracing::warn!(reason, request = of(request), "a read was not answered");
        }
        Found::Corrupt { reason } => {
            tracing::error!(reason, request = of(request), "a user's rows cannot be read");
        }
        _ => {}
    }
}

fn unavailable(reason: String) -> Found {
    Found::Unavailable { reason }
}

fn too_many() -> Found {
    unavailable("too many reads wait for the primary".to_owned())
}

fn of(request: &ReadRequest) -> Option<DisplayValue<&Origin>> {
    request.origin.as_ref().map(display)
}
