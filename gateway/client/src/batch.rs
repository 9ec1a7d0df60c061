//! Many operations in one request, each with its own key, answer and retries.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use uuid::Uuid;

use crate::answer::{Done, DoneBody, Received};
use crate::asking::{Asking, Failed};
use crate::error::Error;
use crate::exchange::{Answer, Lost};
use crate::problem::{Meaning, Problem};
use crate::wish::{Capture, NewHold, Payment, Refund, Void};

/// One operation of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "operation", content = "body", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Operation {
    /// Adds money to a user's balance.
    TopUp(Payment),
    /// Takes money from a user's balance.
    Charge(Payment),
    /// Gives back money of a charge.
    Refund(Refund),
    /// Reserves money of a user's balance.
    Hold(NewHold),
    /// Charges what a hold reserves.
    Capture(Capture),
    /// Gives a hold back.
    Void(Void),
}

impl Operation {
    /// The key, if one was set.
    pub fn key(&self) -> Option<Uuid> {
        match self {
            Self::TopUp(payment) | Self::Charge(payment) => payment.key(),
            Self::Refund(refund) => refund.key(),
            Self::Hold(hold) => hold.key(),
            Self::Capture(capture) => capture.key(),
            Self::Void(void) => void.key(),
        }
    }
}

#[derive(Serialize)]
struct BatchBody<'a> {
    operations: Vec<&'a Keyed<'a>>,
}

/// An operation under the key that all its attempts have.
#[derive(Serialize)]
struct Keyed<'a> {
    idempotency_key: Uuid,
    #[serde(flatten)]
    operation: &'a Operation,
}

#[derive(Deserialize)]
struct ResultsBody<'a> {
    #[serde(borrow)]
    results: Vec<ResultBody<'a>>,
}

#[derive(Deserialize)]
struct ResultBody<'a> {
    status: u16,
    replayed: bool,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// An operation that has no final answer yet.
struct Open<'a> {
    position: usize,
    keyed: Keyed<'a>,
    was_unknown: bool,
}

/// What an attempt said of one operation.
enum Said {
    Final(Result<Done, Error>),
    Failed(Failed),
}

impl Asking {
    /// # Errors
    /// When the gateway refused the request as a whole: nothing of it happened.
    pub async fn batch(&self, operations: &[Operation]) -> Result<Vec<Result<Done, Error>>, Error> {
        let ends = Instant::now() + self.patience.deadline;
        let mut answers: Vec<Option<Result<Done, Error>>> = operations.iter().map(|_| None).collect();
        let mut open: Vec<Open<'_>> = (operations.iter().enumerate())
            .map(|(position, operation)| {
                let idempotency_key = operation.key().unwrap_or_else(Uuid::new_v4);
                Open { position, keyed: Keyed { idempotency_key, operation }, was_unknown: false }
            })
            .collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (said, retry_after) = self.attempt(&open, attempts, ends).await?;
            let pause = self.patience.pause_after(attempts, retry_after);
            let is_over = attempts >= self.patience.attempts_max || Instant::now() + pause >= ends;
            let mut left = Vec::new();
            for (mut of, said) in open.into_iter().zip(said) {
                let answer = match said {
                    Said::Final(answer) => answer,
                    Said::Failed(failed) => {
                        of.was_unknown |= failed.is_unknown();
                        if !is_over && failed.meaning != Meaning::Broken {
                            left.push(of);
                            continue;
                        }
                        let key = of.was_unknown.then_some(of.keyed.idempotency_key);
                        Err(failed.given_up(key, attempts))
                    }
                };
                answers[of.position] = Some(answer);
            }
            open = left;
            if open.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        Ok(answers.into_iter().map(|answer| answer.expect("answered or given up")).collect())
    }

    /// What one attempt said of each, and how long to wait before the next.
    async fn attempt(
        &self,
        open: &[Open<'_>],
        attempts: u32,
        ends: Instant,
    ) -> Result<(Vec<Said>, Option<Duration>), Error> {
        let unreadable = |cause| Error::Unreadable { key: None, cause };
        let body = BatchBody { operations: open.iter().map(|open| &open.keyed).collect() };
        let body = serde_json::to_string(&body).map_err(unreadable)?;
        let tried = tokio::time::timeout_at(ends, self.exchange.post("/v1/batch", None, body)).await;
        let failed = match tried.unwrap_or(Err(Lost::TimedOut(self.patience.deadline))) {
            Ok(answer) if answer.is_success() => {
                let said = read_results(&answer, open, attempts).map_err(unreadable)?;
                return Ok((said, None));
            }
            Ok(answer) => {
                let problem = Problem::read(&answer);
                if problem.meaning() == Meaning::Decided && attempts == 1 {
                    return Err(Error::Refused(Box::new(problem)));
                }
                Failed::told(problem)
            }
            Err(lost) => Failed::lost(&lost),
        };
        let retry_after = failed.retry_after;
        Ok((open.iter().map(|_| Said::of(failed.clone())).collect(), retry_after))
    }
}

impl Said {
    fn of(failed: Failed) -> Self {
        match failed {
            Failed { meaning: Meaning::Decided, problem: Some(problem), .. } => {
                Self::Final(Err(Error::Refused(Box::new(problem))))
            }
            failed => Self::Failed(failed),
        }
    }
}

fn read_results(answer: &Answer, open: &[Open<'_>], attempts: u32) -> Result<Vec<Said>, serde_json::Error> {
    let ResultsBody { results } = serde_json::from_slice(&answer.body)?;
    if results.len() != open.len() {
        let detail = format!("{} results for {} operations", results.len(), open.len());
        return Err(serde_json::Error::custom(detail));
    }
    let request_id = answer.header("x-request-id");
    let read = |ResultBody { status, replayed, body }: ResultBody<'_>, key| {
        if status != 200 {
            let problem = Problem::of(status, body.get().as_bytes(), request_id, None);
            return Said::of(Failed::told(problem));
        }
        let session = answer.session().map(str::to_owned);
        let received = Received { is_replayed: replayed, session, attempts };
        let done = serde_json::from_str(body.get()).map(|body: DoneBody| body.received(received));
        Said::Final(done.map_err(|cause| Error::Unreadable { key: Some(key), cause }))
    };
    Ok(results.into_iter().zip(open).map(|(result, open)| read(result, open.keyed.idempotency_key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_written_as_the_contract_says() {
        let charge = Operation::Charge(Payment::new(7, "5", "USD").unwrap());
        let top_up = Operation::TopUp(Payment::new(7, "6.50", "USD").unwrap());
        let refund = Operation::Refund(Refund::new(Uuid::nil()));
        let keyed =
            [&charge, &top_up, &refund].map(|operation| Keyed { idempotency_key: Uuid::max(), operation });
        let text = serde_json::to_string(&BatchBody { operations: keyed.iter().collect() }).unwrap();
        let key = "\"idempotency_key\":\"ffffffff-ffff-ffff-ffff-ffffffffffff\"";
        assert_eq!(
            text,
            format!(
                "{{\"operations\":[\
                 {{{key},\"operation\":\"charge\",\"body\":{{\"user_id\":7,\"amount\":\"5\",\"currency\":\"USD\"}}}},\
                 {{{key},\"operation\":\"topup\",\"body\":{{\"user_id\":7,\"amount\":\"6.50\",\"currency\":\"USD\"}}}},\
                 {{{key},\"operation\":\"refund\",\"body\":{{\"transaction_id\":\"{}\"}}}}]}}",
                Uuid::nil()
            )
        );
    }
}
