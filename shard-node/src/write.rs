//! The write path of a node: a gateway's batch, through the cache, to the users' lanes and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use picopay_shared::command::{Attempt, Outcome, Status, WriteBatch, WriteReply};
use picopay_shared::lane::{Lane, QueueFull};
use picopay_shared::node_status::CacheState;
use picopay_shared::transfer::Credited;

use crate::cache::{Cache, Remembered};
use crate::lane::{self, Done, Job, LaneParts};

/// The entrances of all lanes of a node.
pub struct Writer {
    parts: Arc<LaneParts>,
    lanes: Vec<Lane<Job, Done>>,
    cache: Cache,
}

impl Writer {
    pub fn start(parts: Arc<LaneParts>, cache: Cache, count: usize, queue_max: usize) -> Self {
        let lanes = (0..count)
            .map(|number| {
                let (lane, end) = Lane::new(queue_max);
                let parts = Arc::clone(&parts);
                tokio::spawn(async move {
                    // A panic loses its own batch, whose outcome is then unknown, and not the lane.
                    while tokio::spawn(lane::run(number, Arc::clone(&parts), end.clone())).await.is_err() {
                        tracing::error!("a lane panicked and was started again");
                    }
                });
                lane
            })
            .collect();
        Self { parts, lanes, cache }
    }

    pub async fn write(&self, batch: WriteBatch) -> WriteReply {
        let deadline = Instant::now() + Duration::from_millis(u64::from(batch.deadline_ms));
        let attempts = Arc::new(batch.attempts);
        let Remembered { mut outcomes, mut position } = self.look_up(&attempts).await;
        let cache_hits = outcomes.iter().flatten().count();
        let decided = future::join_all(
            self.by_lane(&attempts, &outcomes)
                .into_iter()
                .map(|(lane, positions)| self.decide(lane, &attempts, positions, deadline)),
        )
        .await;
        let mut commit_time = Duration::ZERO;
        for (positions, done) in decided {
            let answered =
                || positions.iter().map(|position| &attempts[*position].command).zip(&done.outcomes);
            if let (true, Some(committed), Some(opening)) =
                (done.is_as_promised, done.position, &done.opening)
            {
                self.cache.remember(answered(), committed, opening);
            }
            commit_time = commit_time.max(done.commit_time);
            position = position.max(done.position);
            for (position, outcome) in positions.into_iter().zip(done.outcomes) {
                outcomes[position] = Some(outcome);
            }
        }
        let outcomes: Vec<Outcome> =
            outcomes.into_iter().map(|outcome| outcome.expect("from the cache or from its lane")).collect();
        self.parts.metrics.cache_hits.inc_by(u64::try_from(cache_hits).unwrap_or(u64::MAX));
        for outcome in &outcomes {
            self.parts.metrics.outcomes.with_label_values(&[outcome_word(outcome)]).inc();
        }
        WriteReply {
            outcomes,
            cache_hits: u32::try_from(cache_hits).unwrap_or(u32::MAX),
            commit_us: u32::try_from(commit_time.as_micros()).unwrap_or(u32::MAX),
            position,
        }
    }

    /// Looks the answers up that are in force; none while the gate is shut.
    async fn look_up(&self, attempts: &[Attempt]) -> Remembered {
        let Ok(opening) = self.parts.gate.check() else { return Remembered::nothing(attempts.len()) };
        if self.cache.state() == CacheState::Skipped {
            self.parts.metrics.cache_skips.inc();
        }
        let found = self.cache.look_up(attempts, &opening).await;
        // Meanwhile the shard may have a new primary.
        let is_in_force = self.parts.gate.check().as_ref() == Ok(&opening);
        if is_in_force { found } else { Remembered::nothing(attempts.len()) }
    }

    pub fn queue_lengths(&self) -> impl Iterator<Item = usize> {
        self.lanes.iter().map(Lane::queue_length)
    }

    fn by_lane(&self, attempts: &[Attempt], outcomes: &[Option<Outcome>]) -> BTreeMap<usize, Vec<usize>> {
        let mut lanes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (position, attempt) in attempts.iter().enumerate() {
            if outcomes[position].is_none() {
                // The tag is the same for all operations of a user, also for a refund by its charge's id.
                let tag = usize::try_from(attempt.command.operation.tag().get()).expect("30 bits");
                lanes.entry(tag % self.lanes.len()).or_default().push(position);
            }
        }
        lanes
    }

    async fn decide(
        &self,
        lane: usize,
        attempts: &Arc<Vec<Attempt>>,
        positions: Vec<usize>,
        deadline: Instant,
    ) -> (Vec<usize>, Done) {
        let count = positions.len();
        let job = Job { attempts: Arc::clone(attempts), positions: positions.clone(), deadline };
        let done = match self.lanes[lane].submit(job, count) {
            Ok(answer) => answer.await.unwrap_or_else(|_lost| Done::all(Outcome::OutcomeUnknown, count)),
            Err(QueueFull) => Done::all(Outcome::Overloaded, count),
        };
        (positions, done)
    }
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::UserCreated => "user_created",
        Outcome::UserExisted => "user_existed",
        Outcome::Decided { is_replayed: true, .. }
        | Outcome::Transferred { is_replayed: true, .. }
        | Outcome::Credited { is_replayed: true, .. } => "replayed",
        Outcome::Decided { transaction, .. } if transaction.status == Status::Completed => "completed",
        Outcome::Decided { .. } => "refused",
        Outcome::KeyReused { .. } => "key_reused",
        Outcome::UserNotFound => "user_not_found",
        Outcome::TransactionNotFound => "transaction_not_found",
        Outcome::HoldNotFound => "hold_not_found",
        Outcome::Swept => "swept",
        Outcome::Transferred { .. } => "transferred",
        Outcome::Credited { credited: Credited::Given, .. } => "credited",
        Outcome::Credited { credited: Credited::Refused(_), .. } => "credit_refused",
        Outcome::TransferNotFound => "transfer_not_found",
        Outcome::AmountInvalid { .. } => "amount_invalid",
        Outcome::Moved(_) => "moved",
        Outcome::Unavailable { .. } => "unavailable",
        Outcome::OutcomeUnknown => "outcome_unknown",
        Outcome::Internal => "internal",
        Outcome::Overloaded => "overloaded",
    }
}
