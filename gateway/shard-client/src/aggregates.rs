//! Sums and totals over all shards: asked at the same time, gathered before one deadline.
//!
//! Each slot is asked for at one shard, the one that owns it by the map, and is counted in that shard's answer only. A
//! shard names the slots that it did not own at its moment. They are asked for again, where they went. So every user
//! counts once while slots move, also when an old owner's replica does not know of the move yet.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use picopay_shared::aggregate::{
    AggregateAnswer, AggregateQuery, AggregateRequest, Aggregated, Figures, SumsQuery,
};
use picopay_shared::query::Source;
use picopay_shared::slot::{SLOT_COUNT, Slot};
use tokio::time::Instant;
use tracing::error;

use crate::attempts::{Attempts, Next};
use crate::client::ShardClient;
use crate::ended::NotDone;
use crate::error::{SOON, ShardError};
use crate::reads::Reader;
use crate::shard_set::OpenShard;
use crate::slot_map::Owner;

/// How often slots that moved are asked for again. A slot moves once in a while, and its pause is waited for.
const ROUNDS_MAX: u8 = 4;

/// What all shards gave together.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    pub figures: Figures,
    /// One for each shard, also for those that had nothing to add.
    pub shards: Vec<ShardSource>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ShardSource {
    pub shard: String,
    /// The older one, when it answered from two databases.
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// On one shard more transactions are in the range than it looks at.
    #[error("too many transactions are in the range")]
    RangeTooLarge,
}

/// What one shard is asked for in a round.
struct Asked {
    shard: Arc<OpenShard>,
    slots: HashMap<Slot, Owner>,
}

impl ShardClient {
    /// # Errors
    /// [`AggregateError`]: no sum without all of its shards.
    pub async fn read_sums(&self, query: SumsQuery, reader: Reader) -> Result<Gathered, AggregateError> {
        self.gather(&AggregateQuery::Sums(query), reader).await
    }

    /// # Errors
    /// [`AggregateError::Shard`]: no total without all shards.
    pub async fn read_totals(&self, reader: Reader) -> Result<Gathered, AggregateError> {
        let slots = (0..SLOT_COUNT).filter_map(Slot::new).collect();
        self.gather(&AggregateQuery::Totals { slots }, reader).await
    }

    async fn gather(&self, query: &AggregateQuery, reader: Reader) -> Result<Gathered, AggregateError> {
        let deadline = self.deadline();
        let mut figures = Figures::default();
        let mut sources: HashMap<usize, ShardSource> = HashMap::new();
        // The first round asks every shard: each has an entry in the answer.
        let mut asked: HashMap<usize, Asked> = HashMap::new();
        for shard in self.all_shards().iter() {
            asked.insert(shard.place, Asked { shard: Arc::clone(shard), slots: HashMap::new() });
        }
        let mut missing = query.slots();
        for _ in 0..ROUNDS_MAX {
            for slot in missing.drain(..) {
                let (owner, shard) = self.find(slot, deadline).await.map_err(ShardError::from)?;
                let asked =
                    asked.entry(owner.place).or_insert_with(|| Asked { shard, slots: HashMap::new() });
                asked.slots.insert(slot, owner);
            }
            let asking = asked.drain().map(async |(_, asked)| {
                let part = query.about(|slot| asked.slots.contains_key(&slot));
                let request =
                    AggregateRequest { query: part, session: reader.session, origin: reader.origin.clone() };
                let answer = ask(&asked.shard, &request, deadline).await;
                (asked, answer)
            });
            let mut gone: Vec<(Slot, Owner)> = Vec::new();
            for (Asked { shard, slots }, answer) in join_all(asking).await {
                let (part, source) = answer?;
                let source = ShardSource { shard: shard.name.clone(), source };
                sources
                    .entry(shard.place)
                    .and_modify(|known| known.source = older(known.source, source.source))
                    .or_insert(source);
                figures.add(&part).map_err(|too_large| {
                    error!(%too_large, "sums cannot be added up");
                    internal(&shard)
                })?;
                for moved in &part.not_owned {
                    self.note_moved(&shard, moved);
                    let owner = slots.get(&moved.slot).ok_or_else(|| {
                        error!(shard = shard.name, slot = moved.slot.get(), "it was not asked for this slot");
                        internal(&shard)
                    })?;
                    gone.push((moved.slot, *owner));
                }
            }
            if gone.is_empty() {
                let mut shards: Vec<(usize, ShardSource)> = sources.into_iter().collect();
                shards.sort_by_key(|(place, _)| *place);
                let shards = shards.into_iter().map(|(_, source)| source).collect();
                return Ok(Gathered { figures: figures.sorted(), shards });
            }
            for (slot, owner) in gone {
                self.look_again(slot, owner).await;
                missing.push(slot);
            }
        }
        Err(ShardError::NotDone { why: NotDone::SlotMoving, shard: None, retry_after: SOON }.into())
    }
}

async fn ask(
    shard: &OpenShard,
    request: &AggregateRequest,
    deadline: Instant,
) -> Result<(Figures, Source), AggregateError> {
    let body = Bytes::from(request.to_wire());
    let mut attempts = Attempts::default();
    shard.budget.earn();
    let AggregateAnswer { found, source } = loop {
        let ended = shard.attempt_aggregate(body.clone(), deadline).await;
        match attempts.after(ended, || shard.may_retry(deadline)) {
            Next::Answer(answer) => break answer,
            Next::GiveUp(end) => return Err(shard.read_error(end).into()),
            // It names slots that moved in its answer.
            Next::Retry | Next::LookAgain => shard.pause_before_retry().await,
        }
    };
    match found {
        Aggregated::Figures(figures) => {
            shard.metrics.reads_answered.inc();
            Ok((figures, source))
        }
        Aggregated::RangeTooLarge => {
            shard.metrics.reads_answered.inc();
            Err(AggregateError::RangeTooLarge)
        }
        Aggregated::Corrupt { .. } | Aggregated::Unavailable { .. } => Err(internal(shard).into()),
    }
}

fn internal(shard: &OpenShard) -> ShardError {
    ShardError::NotDone { why: NotDone::Internal, shard: Some(shard.name.clone()), retry_after: SOON }
}

fn older(one: Source, other: Source) -> Source {
    match (one, other) {
        (Source::Replica { lag_ms: one }, Source::Replica { lag_ms: other }) => {
            Source::Replica { lag_ms: one.max(other) }
        }
        (replica @ Source::Replica { .. }, _) | (_, replica) => replica,
    }
}
