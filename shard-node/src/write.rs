//! The write path of a node: a gateway's batch, through the cache, to the users' lanes and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use picopay_shared::batcher::Lane;
use picopay_shared::command::{Command, Outcome, Status, WriteBatch, WriteReply};

use crate::book::Recorded;
use crate::cache::Cache;
use crate::lane::{self, Done, Job, LaneParts};

/// The entrances of all lanes of a node.
pub struct Writer {
    parts: Arc<LaneParts>,
    lanes: Vec<Lane<Job, Done>>,
    cache: Cache,
}

impl Writer {
    /// Starts `count` lanes in which at most `queue_max` commands wait.
    pub fn start(parts: Arc<LaneParts>, cache: Cache, count: usize, queue_max: usize) -> Self {
        let lanes = (0..count)
            .map(|_| {
                let (lane, end) = Lane::new(queue_max);
                let parts = Arc::clone(&parts);
                tokio::spawn(async move {
                    // A panic loses its own batch, whose outcome is then unknown, and not the lane.
                    while tokio::spawn(lane::run(Arc::clone(&parts), end.clone())).await.is_err() {
                        tracing::error!("a lane panicked and was started again");
                    }
                });
                lane
            })
            .collect();
        Self { parts, lanes, cache }
    }

    /// What became of each command of `batch`.
    pub async fn write(&self, batch: WriteBatch) -> WriteReply {
        let deadline = Instant::now() + Duration::from_millis(u64::from(batch.deadline_ms));
        let remembered = self.cache.look_up(&batch.commands).await;
        let cache_hits = remembered.iter().flatten().count();
        self.parts.metrics.cache_hits.inc_by(u64::try_from(cache_hits).unwrap_or(u64::MAX));
        let decided = future::join_all(
            batch.commands.iter().zip(remembered).map(|(command, hit)| self.decide(command, hit, deadline)),
        )
        .await;
        let recorded: Vec<Option<&Recorded>> = decided.iter().map(|done| done.recorded.as_deref()).collect();
        self.cache.remember(
            batch.commands.iter().zip(recorded).filter_map(|(command, recorded)| Some((command, recorded?))),
        );
        let commit_time = decided.iter().map(|done| done.commit_time).max().unwrap_or_default();
        for done in &decided {
            self.parts.metrics.outcomes.with_label_values(&[outcome_word(&done.outcome)]).inc();
        }
        WriteReply {
            outcomes: decided.into_iter().map(|done| done.outcome).collect(),
            cache_hits: u32::try_from(cache_hits).unwrap_or(u32::MAX),
            commit_us: u32::try_from(commit_time.as_micros()).unwrap_or(u32::MAX),
        }
    }

    /// Commands waiting in each lane.
    pub fn queue_lengths(&self) -> impl Iterator<Item = usize> {
        self.lanes.iter().map(Lane::queue_length)
    }

    async fn decide(&self, command: &Command, hit: Option<Outcome>, deadline: Instant) -> Done {
        if let Some(outcome) = hit {
            return Done { outcome, recorded: None, commit_time: Duration::ZERO };
        }
        // The tag is the same for all operations of a user, a refund by its charge's id included.
        let tag = usize::try_from(command.operation.tag().get()).expect("30 bits");
        let lane = &self.lanes[tag % self.lanes.len()];
        let outcome = match lane.submit(Job { command: command.clone(), deadline }) {
            Ok(answer) => match answer.await {
                Ok(done) => return done,
                Err(_lost) => Outcome::OutcomeUnknown,
            },
            Err(full) => Outcome::Unavailable { reason: full.to_string() },
        };
        Done { outcome, recorded: None, commit_time: Duration::ZERO }
    }
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::UserCreated => "user_created",
        Outcome::UserExisted => "user_existed",
        Outcome::Decided { is_replayed: true, .. } => "replayed",
        Outcome::Decided { transaction, .. } if transaction.status == Status::Completed => "completed",
        Outcome::Decided { .. } => "refused",
        Outcome::KeyReused { .. } => "key_reused",
        Outcome::UserNotFound => "user_not_found",
        Outcome::TransactionNotFound => "transaction_not_found",
        Outcome::AmountInvalid { .. } => "amount_invalid",
        Outcome::Moved(_) => "moved",
        Outcome::Unavailable { .. } => "unavailable",
        Outcome::OutcomeUnknown => "outcome_unknown",
        Outcome::Internal => "internal",
    }
}
