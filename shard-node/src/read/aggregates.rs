//! Sums and totals: many rows for one client, so few at once, each with the time that its gateway waits.
//!
//! From a fresh replica as all reads. The primary decides only about slots that the replica does not show as owned: it
//! may be behind the end of a move. No slot is counted in both.

use std::time::Instant;

use picopay_shared::aggregate::{AggregateAnswer, AggregateQuery, AggregateRequest, Aggregated, Figures};
use picopay_shared::query::Source;
use picopay_shared::session::SessionToken;
use tokio::time::{timeout, timeout_at};

use super::{Busy, Fault, NoAnswer, Reader};
use crate::db::Replica;
use crate::read_pool::Lease;
use crate::replay_wait::{self, NotShown};
use crate::store;

impl Reader {
    /// Answers before `deadline`, whatever the databases do.
    pub async fn aggregate(&self, request: &AggregateRequest, deadline: Instant) -> AggregateAnswer {
        let answer = match timeout_at(deadline.into(), self.find_aggregate(request, deadline)).await {
            Ok(answer) => answer,
            Err(_elapsed) => of_primary(unavailable(NoAnswer::not_in_time().reason)),
        };
        let request = &request.origin;
        match &answer.found {
            Aggregated::Unavailable { reason } => {
                tracing::warn!(reason, %request, "sums or totals were not answered");
            }
            Aggregated::Corrupt { reason } => {
                tracing::error!(reason, %request, "rows cannot be added up");
            }
            Aggregated::Figures(_) | Aggregated::RangeTooLarge => {}
        }
        answer
    }

    async fn find_aggregate(&self, request: &AggregateRequest, deadline: Instant) -> AggregateAnswer {
        if let Some(reason) = self.parts.primary.expected().refusal() {
            return of_primary(unavailable(reason));
        }
        let Ok(_permit) = self.aggregates.acquire().await else {
            return of_primary(unavailable("ending".to_owned()));
        };
        let query = &request.query;
        let Some((found, source)) = self.aggregate_of_replica(query, request.session, deadline).await else {
            return of_primary(self.aggregate_of_primary(query, deadline).await);
        };
        let figures = match found {
            Aggregated::Figures(figures) if !figures.not_owned.is_empty() => figures,
            found => return AggregateAnswer { found, source },
        };
        self.note_passed_over("not found");
        let slots: Vec<_> = figures.not_owned.iter().map(|moved| moved.slot).collect();
        let query = query.about(|slot| slots.contains(&slot));
        let found = match self.aggregate_of_primary(&query, deadline).await {
            Aggregated::Figures(rest) => with_the_rest(figures, rest),
            found => return of_primary(found),
        };
        AggregateAnswer { found, source }
    }

    /// `None` when the primary must answer all of it.
    async fn aggregate_of_replica(
        &self,
        query: &AggregateQuery,
        session: Option<SessionToken>,
        deadline: Instant,
    ) -> Option<(Aggregated, Source)> {
        if self.is_of_another_shard(session) {
            return None;
        }
        let (chosen, source) = self.next_replica()?;
        let busy = Busy::with(&chosen.busy, 1);
        // The primary has the other half.
        let deadline = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
        let asked = timeout_at(
            deadline.into(),
            self.ask_replica_for_aggregate(&chosen.replica, query, session, deadline),
        );
        let asked = asked.await.unwrap_or_else(|_elapsed| Err(NoAnswer::not_in_time()));
        drop(busy);
        match asked {
            Ok(Ok(Aggregated::Corrupt { .. })) => self.note_passed_over("failed"),
            Ok(Ok(found)) => {
                chosen.replica.readers().note_success();
                self.parts.metrics.reads.with_label_values(&["replica"]).inc();
                return Some((found, source));
            }
            Ok(Err(NotShown::Behind)) => self.note_passed_over("behind"),
            Ok(Err(NotShown::Beyond)) => self.note_passed_over("beyond"),
            Err(no_answer) if no_answer.fault == Fault::Lost => self.note_failed(chosen, no_answer),
            // It may only be a large one. Other reads show whether the replica is slow.
            Err(NoAnswer { reason, .. }) => {
                tracing::debug!(reason, "a replica was passed over");
                self.note_passed_over("failed");
            }
        }
        None
    }

    async fn ask_replica_for_aggregate(
        &self,
        replica: &Replica,
        query: &AggregateQuery,
        session: Option<SessionToken>,
        deadline: Instant,
    ) -> Result<Result<Aggregated, NotShown>, NoAnswer> {
        let lease = match session {
            None => replica.readers().lease().await?,
            Some(token) => {
                match replay_wait::wait_for(replica, token.position, &self.log, self.session_wait).await? {
                    Ok(lease) => lease,
                    Err(why) => return Ok(Err(why)),
                }
            }
        };
        Ok(Ok(aggregate_and_give_back(lease, query, deadline).await?))
    }

    async fn aggregate_of_primary(&self, query: &AggregateQuery, deadline: Instant) -> Aggregated {
        self.parts.metrics.reads.with_label_values(&["primary"]).inc();
        let Ok(Ok(_permit)) = timeout(self.primary_timeout, self.primary_fallback.acquire()).await else {
            return unavailable("too many reads wait for the primary".to_owned());
        };
        let primary = &self.parts.primary;
        if let Err(reason) = primary.may_read() {
            return unavailable(reason);
        }
        let asked = async {
            let lease = primary.readers().lease().await?;
            aggregate_and_give_back(lease, query, deadline).await
        };
        match asked.await {
            Ok(found) => found,
            Err(no_answer) => {
                if no_answer.fault == Fault::Lost {
                    self.note_primary_failed(&no_answer);
                }
                unavailable(no_answer.reason)
            }
        }
    }
}

/// What failed leaves the connection in a broken database transaction: it is dropped, and closed.
async fn aggregate_and_give_back(
    lease: Lease,
    query: &AggregateQuery,
    deadline: Instant,
) -> Result<Aggregated, NoAnswer> {
    let left = deadline.saturating_duration_since(Instant::now());
    let found = store::aggregate(&lease, query, left).await?;
    lease.give_back();
    Ok(found)
}

fn with_the_rest(mut figures: Figures, rest: Figures) -> Aggregated {
    match figures.add(&rest) {
        Ok(()) => Aggregated::Figures(Figures { not_owned: rest.not_owned, ..figures }),
        Err(too_large) => Aggregated::Corrupt { reason: too_large.to_string() },
    }
}

fn of_primary(found: Aggregated) -> AggregateAnswer {
    AggregateAnswer { found, source: Source::Primary }
}

fn unavailable(reason: String) -> Aggregated {
    Aggregated::Unavailable { reason }
}
