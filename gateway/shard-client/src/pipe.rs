//! A worker at the far end of a shard's lane: takes what waits, sends it as one batch, hands out the answers.
//!
//! Each pipe has one batch under way. It runs in its own task, so a client that hangs up cancels nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use picopay_shared::command::{Attempt, Command, Outcome, WriteBatch, WriteReply};
use picopay_shared::lane::{LaneEnd, Pending, Reply};
use picopay_shared::session::SessionToken;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::ended::{Ended, NotDone};
use crate::job::{Done, Job};
use crate::journey::Sent;
use crate::nodes::Said;
use crate::pace::Pace;
use crate::refusal_pace;
use crate::shard::Shard;
use crate::wire::{Ask, CallError};

/// A node starts nothing that it cannot finish in time, and needs at least this for a batch. With less time
/// left nothing is sent, and the client hears that nothing happened.
const WORTH_SENDING: Duration = Duration::from_millis(20);

pub fn run_all(shard: &Arc<Shard>, count: usize, tasks: &TaskTracker, closing: &CancellationToken) {
    for (number, end) in shard.lane_ends().iter().enumerate() {
        for _ in 0..count {
            tasks.spawn(run(Arc::clone(shard), end.clone(), number, closing.clone()));
        }
    }
}

async fn run(shard: Arc<Shard>, end: LaneEnd<Job, Done>, number: usize, closing: CancellationToken) {
    let (mut last_reason, mut pace) = (LastReason::default(), Pace::new(shard.batch_interval));
    loop {
        pace.wait().await;
        let batch = tokio::select! {
            biased; // Serve what waits before noticing the end.
            batch = end.next_batch(shard.batch_max) => batch,
            () = closing.cancelled() => None,
        };
        let Some(batch) = batch else { return };
        pace.start();
        let size = batch.iter().map(Pending::weight).sum();
        // A batch may also be full before its last place, when the next item is a heavy one.
        let is_full = size + shard.lanes[number].queue_length() >= shard.batch_max;
        let running = run_batch(&shard, batch, (number, is_full), &mut last_reason);
        let sent = AssertUnwindSafe(running).catch_unwind().await;
        match sent {
            Ok(Taken::Refused) => tokio::time::sleep(refusal_pace::rest_after(size)).await,
            Ok(Taken::Looked) => {}
            // The panic's message is in the log already. To the clients of this batch it is an answer that did not come.
            Err(_panic) => error!(shard = shard.name, "a batch ended in a panic; the lane goes on"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Looked,
    /// The shard takes nothing new at the moment; the next batch would fare no better.
    Refused,
}

/// Why a shard could not write, as it reported last. Without it, each of a thousand batches a second would
/// log it again.
#[derive(Debug, Default)]
struct LastReason {
    reason: Option<String>,
}

impl LastReason {
    fn note(&mut self, shard: &str, outcomes: &[Outcome]) -> Taken {
        let reason = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Unavailable { reason } => Some(reason),
            _ => None,
        });
        if let Some(reason) = reason
            && self.reason.as_ref() != Some(reason)
        {
            warn!(shard, reason, "the shard could not write");
        }
        self.reason = reason.cloned();
        if is_nothing_new(outcomes) { Taken::Refused } else { Taken::Looked }
    }
}

async fn run_batch(
    shard: &Shard,
    batch: Vec<Pending<Job, Done>>,
    (number, is_full): (usize, bool),
    last_reason: &mut LastReason,
) -> Taken {
    let Some(batch) = admit(shard, batch) else { return Taken::Looked };
    let Batch { attempts, replies, deadline } = batch;
    let count = attempts.len();
    shard.metrics.batch_size.observe(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    let mut request = WriteBatch { deadline_ms: 0, attempts };
    let body = |until: Instant| {
        let left_ms = until.saturating_duration_since(Instant::now()).as_millis();
        request.deadline_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
        Bytes::from(request.to_wire())
    };
    let sent = Instant::now();
    let mut travelled = Sent { at: sent.into_std(), batch_size: count, commit: None };
    let limits = (deadline, shard.call_timeout);
    let judge = |bytes: &Bytes| read_reply(shard, bytes, count);
    let answer = shard.nodes.ask((Ask::Write, 0), number, limits, body, judge).await;
    shard.note(answer.as_ref().err().copied());
    if let Ok(reply) = &answer {
        if is_full {
            shard.rooms[number].note_full_batch(count, sent.elapsed());
        } else {
            shard.rooms[number].note_spare_batch();
        }
        shard.metrics.cache_hits.inc_by(u64::from(reply.cache_hits));
        if reply.commit_us > 0 {
            shard.metrics.commit.observe(f64::from(reply.commit_us) / 1e6);
            travelled.commit = Some(Duration::from_micros(u64::from(reply.commit_us)));
        }
    }
    match answer {
        Ok(WriteReply { outcomes, position, .. }) => {
            let taken = last_reason.note(&shard.name, &outcomes);
            let session = position.map(|position| SessionToken::new(&shard.name, position));
            let mut ended = outcomes.into_iter().map(Ended::from);
            for (reply, count) in replies {
                let ended = ended.by_ref().take(count).collect();
                reply.send(Done { ended, session, sent: Some(travelled) });
            }
            taken
        }
        Err(error) => {
            for (reply, count) in replies {
                reply.send(Done { sent: Some(travelled), ..Done::all(error.into(), count) });
            }
            // A node that cannot be reached is for the breaker. A node that rejects does so at once, and
            // would again.
            if error == CallError::Rejected { Taken::Refused } else { Taken::Looked }
        }
    }
}

struct Batch {
    attempts: Vec<Attempt<Arc<Command>>>,
    /// Each with the number of commands that it answers.
    replies: Vec<(Reply<Done>, usize)>,
    deadline: Instant,
}

/// Answers the commands that are not worth sending, and returns the others; `None` when there are none.
fn admit(shard: &Shard, batch: Vec<Pending<Job, Done>>) -> Option<Batch> {
    let now = Instant::now();
    let jobs: Vec<(Job, Reply<Done>)> = batch.into_iter().map(Pending::split).collect();
    let is_refused = shard.breaker.is_open() && !jobs.iter().any(|(job, _)| job.is_probe);
    let (mut attempts, mut replies) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
    let mut latest = now;
    for (Job { attempts: mut of_job, deadline, ticket, is_probe: _ }, reply) in jobs {
        let count = of_job.len();
        let refusal = if deadline < now + WORTH_SENDING {
            Some(NotDone::Overloaded)
        } else if is_refused {
            Some(NotDone::BreakerOpen)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            reply.send(Done::not_sent(refusal, count));
        } else if ticket.send() {
            attempts.append(&mut of_job);
            replies.push((reply, count));
            latest = latest.max(deadline);
        }
    }
    (!attempts.is_empty()).then_some(Batch { attempts, replies, deadline: latest })
}

fn read_reply(shard: &Shard, bytes: &[u8], expected: usize) -> Said<WriteReply> {
    let reply = match WriteReply::from_wire(bytes) {
        Ok(reply) => reply,
        Err(error) => {
            error!(shard = shard.name, %error, "the node's reply makes no sense");
            return Said::Nonsense;
        }
    };
    if reply.outcomes.len() != expected {
        error!(shard = shard.name, expected, got = reply.outcomes.len(), "the node answered another batch");
        return Said::Nonsense;
    }
    if reply.outcomes.contains(&Outcome::OutcomeUnknown) {
        Said::Trouble(reply)
    } else if is_nothing_new(&reply.outcomes) {
        Said::Nothing(reply)
    } else {
        Said::Fine(reply)
    }
}

/// Whether the node could write nothing of a batch. It may still replay what it remembers.
fn is_nothing_new(outcomes: &[Outcome]) -> bool {
    let is_known = |outcome: &Outcome| matches!(outcome, Outcome::Decided { is_replayed: true, .. });
    let is_unavailable = |outcome: &Outcome| matches!(outcome, Outcome::Unavailable { .. });
    outcomes.iter().any(is_unavailable)
        && outcomes.iter().all(|outcome| is_unavailable(outcome) || is_known(outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_which_nothing_new_was_decided_is_refused_and_only_then() {
        let unavailable = || Outcome::Unavailable { reason: "the database is away".into() };
        for (outcomes, taken) in [
            (vec![unavailable()], Taken::Refused),
            (vec![unavailable(), unavailable()], Taken::Refused),
            (vec![unavailable(), Outcome::UserNotFound], Taken::Looked),
            (vec![Outcome::OutcomeUnknown], Taken::Looked),
            (vec![Outcome::UserCreated], Taken::Looked),
        ] {
            assert_eq!(LastReason::default().note("shard-1", &outcomes), taken, "{outcomes:?}");
        }
    }
}
