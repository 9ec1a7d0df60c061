//! Commands of one client that travel together, each answered for itself.
//!
//! A *bundle* is what goes to one lane of one shard. It waits there as one item, so that one batch on the wire
//! takes all of it, and a user's commands stay in their order. What was not decided travels again, in another
//! bundle, to wherever its slot is by then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use picopay_shared::command::{Attempt, Command};
use picopay_shared::slot::{Slot, UserTag};
use tokio::time::Instant;

use crate::attempts::{Attempts, GaveUp, Next};
use crate::client::{Absence, ShardClient, Written};
use crate::ended::NotDone;
use crate::error::ShardError;
use crate::job::Done;
use crate::shard_set::OpenShard;
use crate::slot_map::Owner;

/// A command, with the place of its answer and what became of it so far.
#[derive(Debug)]
struct Traveller {
    position: usize,
    command: Arc<Command>,
    attempts: Attempts,
    /// The shard that was asked last.
    last: Option<Arc<OpenShard>>,
}

#[derive(Debug)]
enum Bundle {
    To {
        shard: Arc<OpenShard>,
        lane: usize,
        travellers: Vec<(Traveller, Owner)>,
    },
    /// All of one slot, which has no owner at the moment.
    Held {
        slot: Slot,
        travellers: Vec<Traveller>,
    },
}

#[derive(Debug, Default)]
struct Arrived {
    answered: Vec<(usize, Result<Written, ShardError>)>,
    /// In their order. They travel again.
    left: Vec<Traveller>,
}

impl ShardClient {
    /// Has each command decided by the shard that owns its slot, as if it had been sent alone. Those of one
    /// user are decided in their order; an answer stands at the place of its command. At most
    /// [`WRITE_BATCH_MAX`](picopay_shared::command::WRITE_BATCH_MAX) commands.
    ///
    /// To drop the future gives up what was not sent. A caller whose client may hang up runs it as a task.
    pub async fn write_all(&self, commands: Vec<Command>) -> Vec<Result<Written, ShardError>> {
        let deadline = self.deadline();
        let mut answers: Vec<Option<Result<Written, ShardError>>> = Vec::new();
        answers.resize_with(commands.len(), || None);
        let mut travellers: Vec<Traveller> = (commands.into_iter().enumerate())
            .map(|(position, command)| Traveller {
                position,
                command: Arc::new(command),
                attempts: Attempts::default(),
                last: None,
            })
            .collect();
        let mut under_way = FuturesUnordered::new();
        loop {
            for bundle in self.bundles(travellers) {
                under_way.push(self.carry(bundle, deadline));
            }
            let Some(Arrived { answered, left }) = under_way.next().await else { break };
            for (position, answer) in answered {
                answers[position] = Some(answer);
            }
            travellers = left;
        }
        answers.into_iter().map(|answer| answer.expect("nobody travels for ever")).collect()
    }

    /// Sorts travellers into bundles. Each slot is looked up once, so that the commands of a user stay
    /// together also while the map changes.
    fn bundles(&self, travellers: Vec<Traveller>) -> Vec<Bundle> {
        let mut owners: HashMap<Slot, Option<(Owner, Arc<OpenShard>)>> = HashMap::new();
        let mut to_shards: BTreeMap<(usize, usize), Bundle> = BTreeMap::new();
        let mut held: BTreeMap<Slot, Vec<Traveller>> = BTreeMap::new();
        for traveller in travellers {
            let slot = traveller.command.operation.slot();
            let Some((owner, shard)) = owners.entry(slot).or_insert_with(|| self.look_up(slot)) else {
                held.entry(slot).or_default().push(traveller);
                continue;
            };
            let lane = shard.lane_of(&traveller.command);
            let bundle = to_shards.entry((owner.place, lane)).or_insert_with(|| Bundle::To {
                shard: Arc::clone(shard),
                lane,
                travellers: Vec::new(),
            });
            if let Bundle::To { travellers, .. } = bundle {
                travellers.push((traveller, *owner));
            }
        }
        let held = held.into_iter().map(|(slot, travellers)| Bundle::Held { slot, travellers });
        to_shards.into_values().chain(held).collect()
    }

    async fn carry(&self, bundle: Bundle, deadline: Instant) -> Arrived {
        let (shard, lane, travellers) = match bundle {
            Bundle::To { shard, lane, travellers } => (shard, lane, travellers),
            Bundle::Held { slot, travellers } => match self.find(slot, deadline).await {
                Ok(_) => return Arrived { left: travellers, ..Arrived::default() },
                Err(absence) => {
                    let answered = travellers.into_iter().map(|traveller| {
                        (traveller.position, Err(without_owner(&traveller, absence.clone())))
                    });
                    return Arrived { answered: answered.collect(), ..Arrived::default() };
                }
            },
        };
        // A bundle is one request: it earns as much, and its retry costs as much.
        if travellers.iter().any(|(traveller, _)| traveller.last.is_none()) {
            shard.budget.earn();
        }
        let attempt = |(traveller, owner): &(Traveller, Owner)| Attempt {
            command: Arc::clone(&traveller.command),
            epoch: owner.epoch,
        };
        let done = shard.attempt(lane, travellers.iter().map(attempt).collect(), deadline).await;
        self.sort_out(&shard, travellers, done, deadline).await
    }

    /// Who has an answer, and who travels again. Nobody does of whom a later command of the same user may be
    /// booked already: the two would change places.
    async fn sort_out(
        &self,
        shard: &Arc<OpenShard>,
        travellers: Vec<(Traveller, Owner)>,
        Done { ended, session, .. }: Done,
        deadline: Instant,
    ) -> Arrived {
        assert_eq!(ended.len(), travellers.len(), "one for each attempt");
        let mut arrived = Arrived::default();
        let mut settled: HashSet<UserTag> = HashSet::new();
        let (mut may_retry, mut has_to_pause) = (None, false);
        let mut moved: HashMap<Slot, Owner> = HashMap::new();
        for ((mut traveller, owner), ended) in travellers.into_iter().zip(ended).rev() {
            traveller.last = Some(Arc::clone(shard));
            let (tag, slot) = (traveller.command.operation.tag(), traveller.command.operation.slot());
            let is_overtaken = settled.contains(&tag);
            let ask_budget = || !is_overtaken && *may_retry.get_or_insert_with(|| shard.may_retry(deadline));
            let next = match self.after_write(shard, &mut traveller.attempts, (ended, session), ask_budget) {
                Next::LookAgain if is_overtaken => {
                    Next::GiveUp(traveller.attempts.without_owner(NotDone::SlotMoving))
                }
                next => next,
            };
            let answer = match next {
                Next::Retry => {
                    has_to_pause = true;
                    arrived.left.push(traveller);
                    continue;
                }
                Next::LookAgain => {
                    moved.insert(slot, owner);
                    arrived.left.push(traveller);
                    continue;
                }
                Next::Answer(written) => {
                    settled.insert(tag);
                    Ok(written)
                }
                Next::GiveUp(end) => {
                    if end == GaveUp::Unknown {
                        settled.insert(tag);
                    }
                    Err(shard.write_error(end))
                }
            };
            arrived.answered.push((traveller.position, answer));
        }
        arrived.left.reverse();
        if has_to_pause {
            shard.pause_before_retry().await;
        }
        for (slot, owner) in moved {
            self.look_again(slot, owner).await;
        }
        arrived
    }
}

fn without_owner(traveller: &Traveller, absence: Absence) -> ShardError {
    match &traveller.last {
        None => absence.into(),
        Some(shard) => shard.write_error(traveller.attempts.without_owner(absence.why)),
    }
}
