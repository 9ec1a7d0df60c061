//! Reads that came in one batch: one statement for each kind of them, on one connection.
//!
//! What a statement shows at once is told at once. All that needs longer goes on by itself: a read that waits
//! for replay, one that the primary must decide, and those of a statement that failed or took too long. So
//! nobody waits for them.

use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use picopay_shared::query::{Answer, Found, Query, ReadRequest, Source};
use picopay_shared::session::LogPosition;
use tokio::time::timeout;

use super::company::{self, Pause};
use super::{
    Busy, Fault, NoAnswer, Reader, ReplicaInUse, is_strong, log_unanswered, statements, too_many, unavailable,
};
use crate::log_end;
use crate::read_pool::{Lease, ReadPool};
use crate::store::ReadError;

/// A read, and its place in the batch.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    number: usize,
    request: &'a ReadRequest,
}

/// Takes answers as soon as they are known, each with its read's place in the batch.
pub trait Tell: Fn(Vec<(usize, Answer)>) + Sync {}
impl<F: Fn(Vec<(usize, Answer)>) + Sync> Tell for F {}

/// What came of a statement for many reads.
enum Asked {
    /// `None`: the replica does not show the client's write yet.
    Answered(Vec<Option<Found>>),
    /// Nothing that is held against the server: a user's rows may be the reason.
    Failed,
    Late,
    NoServer(NoAnswer),
}

impl Reader {
    /// Answers all of them, each once.
    pub async fn answer_all(&self, requests: &[ReadRequest], tell: &impl Tell) {
        let members = requests.iter().enumerate().map(|(number, request)| Member { number, request });
        if requests.len() == 1 || self.parts.primary.expected().refusal().is_some() {
            return self.answer_alone(members.collect(), tell).await;
        }
        let (alone, together): (Vec<_>, Vec<_>) =
            members.partition(|member| self.company.is_alone(&member.request.query));
        let (strong, others): (Vec<_>, Vec<_>) =
            together.into_iter().partition(|member| is_strong(&member.request.query));
        join3(
            self.answer_alone(alone, tell),
            self.answer_strong(strong, tell),
            self.answer_from_a_replica(others, tell),
        )
        .await;
    }

    async fn answer_alone(&self, members: Vec<Member<'_>>, tell: &impl Tell) {
        join_all(members.into_iter().map(async |Member { number, request }| {
            tell(vec![(number, self.answer(request).await)]);
        }))
        .await;
    }

    async fn answer_strong(&self, members: Vec<Member<'_>>, tell: &impl Tell) {
        let left = self.ask_primary_together(members, tell).await;
        self.answer_alone(left, tell).await;
    }

    async fn answer_from_a_replica(&self, members: Vec<Member<'_>>, tell: &impl Tell) {
        let (mut for_primary, members): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| self.is_of_another_shard(member.request.session));
        let left = match self.next_replica() {
            _ if members.is_empty() => Vec::new(),
            None => {
                for_primary.extend(members);
                Vec::new()
            }
            Some((chosen, _)) if members.len() == 1 || chosen.pause.is_on() => members,
            Some((chosen, source)) => {
                let (passed_over, left) = self.ask_replica_together(chosen, source, members, tell).await;
                for_primary.extend(passed_over);
                left
            }
        };
        join(self.answer_alone(left, tell), self.fall_back(for_primary, tell)).await;
    }

    /// Returns those that the primary must answer, and those to be asked alone.
    async fn ask_replica_together<'a>(
        &self,
        chosen: &ReplicaInUse,
        source: Source,
        members: Vec<Member<'a>>,
        tell: &impl Tell,
    ) -> (Vec<Member<'a>>, Vec<Member<'a>>) {
        let busy = Busy::with(&chosen.busy, members.len());
        let wanted: Vec<_> = members
            .iter()
            .map(|Member { request, .. }| (&request.query, request.session.map(|token| token.position)))
            .collect();
        let readers = chosen.replica.readers();
        let asked = ask_together(readers, self.replica_timeout, &wanted, &chosen.pause).await;
        drop(busy);
        let found = match asked {
            Asked::Answered(found) => found,
            Asked::Failed | Asked::Late => return (Vec::new(), members),
            Asked::NoServer(no_answer) => {
                self.note_failed(chosen, no_answer);
                return (members, Vec::new());
            }
        };
        readers.note_success();
        let (mut answers, mut for_primary, mut left) =
            (Vec::with_capacity(members.len()), Vec::new(), Vec::new());
        for (member, found) in members.into_iter().zip(found) {
            match found.map(|found| self.of_replica(Ok(found), source)) {
                Some(Some(answer)) => answers.push((member.number, answer)),
                Some(None) => for_primary.push(member),
                None => left.push(member),
            }
        }
        tell(answers);
        (for_primary, left)
    }

    /// No replica answers these. One statement for all of them counts as one of the capped reads.
    async fn fall_back(&self, members: Vec<Member<'_>>, tell: &impl Tell) {
        if members.is_empty() {
            return;
        }
        let left = match timeout(self.primary_timeout, self.primary_fallback.acquire()).await {
            Ok(_permit) => self.ask_primary_together(members, tell).await,
            Err(_) => return tell_primarys(members, |_| too_many(), tell),
        };
        join_all(left.into_iter().map(async |member| {
            let found = self.ask_primary_capped(&member.request.query).await;
            tell_primarys(vec![member], |_| found.clone(), tell);
        }))
        .await;
    }

    /// Returns those that are to be asked alone.
    async fn ask_primary_together<'a>(&self, members: Vec<Member<'a>>, tell: &impl Tell) -> Vec<Member<'a>> {
        if members.len() <= 1 || self.primary_pause.is_on() {
            return members;
        }
        let primary = &self.parts.primary;
        if let Err(reason) = primary.may_read() {
            tell_primarys(members, |_| unavailable(reason.clone()), tell);
            return Vec::new();
        }
        // It has everything that any token speaks of.
        let wanted: Vec<_> = members.iter().map(|member| (&member.request.query, None)).collect();
        let readers = primary.readers();
        match ask_together(readers, self.primary_timeout, &wanted, &self.primary_pause).await {
            Asked::Answered(found) => {
                readers.note_success();
                let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
                self.parts.metrics.reads.with_label_values(&["primary"]).inc_by(count);
                let mut found = found.into_iter().flatten();
                tell_primarys(members, |_| found.next().expect("one for each"), tell);
                Vec::new()
            }
            Asked::Failed | Asked::Late => members,
            Asked::NoServer(no_answer) => {
                self.note_primary_failed(&no_answer);
                tell_primarys(members, |_| unavailable(no_answer.reason.clone()), tell);
                Vec::new()
            }
        }
    }
}

/// Asks on one connection, which takes at most `wait` to get. What the pool refuses is no fault of a read.
/// Those whose position in the log is not replayed yet are not asked about.
async fn ask_together(
    readers: &ReadPool,
    wait: Duration,
    wanted: &[(&Query, Option<LogPosition>)],
    pause: &Pause,
) -> Asked {
    let lease = match timeout(wait, readers.lease()).await {
        Ok(Ok(lease)) => lease,
        Ok(Err(error)) => return Asked::NoServer(error.into()),
        Err(_elapsed) => return Asked::NoServer(NoAnswer::not_in_time()),
    };
    // A lease that is dropped in the middle of a statement cancels it.
    let Ok(asked) = timeout(company::longest(wanted.len()), ask_and_give_back(lease, wanted)).await else {
        pause.begin();
        return Asked::Late;
    };
    match asked.map_err(NoAnswer::from) {
        Ok(found) => Asked::Answered(found),
        Err(no_answer) if no_answer.fault == Fault::Lost => Asked::NoServer(no_answer),
        Err(NoAnswer { reason, .. }) => {
            tracing::debug!(reason, "reads are asked one by one");
            Asked::Failed
        }
    }
}

async fn ask_and_give_back(
    lease: Lease,
    wanted: &[(&Query, Option<LogPosition>)],
) -> Result<Vec<Option<Found>>, ReadError> {
    let found = ask_what_is_shown(&lease, wanted).await;
    // The database has finished its answers, whatever they are.
    lease.give_back();
    found
}

async fn ask_what_is_shown(
    client: &deadpool_postgres::Client,
    wanted: &[(&Query, Option<LogPosition>)],
) -> Result<Vec<Option<Found>>, ReadError> {
    // Not in one flight with the rows: replay only goes forward, so they show at least what was replayed before.
    let has_token = wanted.iter().any(|(_, needed)| needed.is_some());
    let replayed = if has_token { log_end::find_replayed(client).await? } else { None };
    let is_shown = |needed: Option<LogPosition>| {
        needed.is_none_or(|needed| {
            replayed
                .is_some_and(|replayed| replayed.timeline == needed.timeline && replayed.lsn >= needed.lsn)
        })
    };
    let shown: Vec<&Query> =
        wanted.iter().filter(|(_, needed)| is_shown(*needed)).map(|(query, _)| *query).collect();
    let mut found = statements::ask_all(client, &shown).await?.into_iter();
    Ok(wanted.iter().map(|(_, needed)| if is_shown(*needed) { found.next() } else { None }).collect())
}

fn tell_primarys(members: Vec<Member<'_>>, mut found: impl FnMut(&Member<'_>) -> Found, tell: &impl Tell) {
    let answers = members.into_iter().map(|member| {
        let answer = Answer { found: found(&member), source: Source::Primary };
        log_unanswered(member.request, &answer);
        (member.number, answer)
    });
    tell(answers.collect());
}
