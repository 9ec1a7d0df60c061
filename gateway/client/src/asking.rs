//! Retries: which attempt is followed by another, when, and what is known in the end.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Error;
use crate::exchange::{Answer, Exchange, Lost};
use crate::patience::Patience;
use crate::problem::{Meaning, Problem};

/// Asks one gateway, with retries.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub exchange: Exchange,
    pub patience: Patience,
}

/// An attempt that did not succeed.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub meaning: Meaning,
    pub retry_after: Option<Duration>,
    why: String,
    pub problem: Option<Problem>,
}

impl Asking {
    /// Asks again until there is an answer: a read changes nothing.
    pub async fn read<T: DeserializeOwned>(&self, path: &str, session: Option<&str>) -> Result<T, Error> {
        let (answer, _) = self.until_answered(None, || self.exchange.get(path, session)).await?;
        serde_json::from_slice(&answer.body).map_err(|cause| Error::Unreadable { key: None, cause })
    }

    /// Returns a success, and the number of its attempt.
    pub async fn until_answered<F: Future<Output = Result<Answer, Lost>>>(
        &self,
        key: Option<Uuid>,
        mut send: impl FnMut() -> F,
    ) -> Result<(Answer, u32), Error> {
        let ends = Instant::now() + self.patience.deadline;
        let (mut attempts, mut was_unknown) = (0, false);
        loop {
            attempts += 1;
            let tried = tokio::time::timeout_at(ends, send()).await;
            let failed = match tried.unwrap_or(Err(Lost::TimedOut(self.patience.deadline))) {
                Ok(answer) if answer.is_success() => return Ok((answer, attempts)),
                Ok(answer) => Failed::told(Problem::read(&answer)),
                Err(lost) => Failed::lost(&lost),
            };
            was_unknown |= failed.is_unknown();
            let pause = self.patience.pause_after(attempts, failed.retry_after);
            let is_over = attempts >= self.patience.attempts_max || Instant::now() + pause >= ends;
            match failed {
                Failed { meaning: Meaning::Decided, problem: Some(problem), .. } => {
                    return Err(Error::Refused(Box::new(problem)));
                }
                failed if is_over || failed.meaning == Meaning::Broken => {
                    // The outcome of an earlier attempt is not known either.
                    return Err(failed.given_up(key.filter(|_| was_unknown), attempts));
                }
                Failed { .. } => tokio::time::sleep(pause).await,
            }
        }
    }
}

impl Failed {
    /// Whether it may have happened.
    pub fn is_unknown(&self) -> bool {
        matches!(self.meaning, Meaning::Unknown | Meaning::Broken)
    }

    /// The error of the last attempt; with the key, if one of them may have happened.
    pub fn given_up(self, key: Option<Uuid>, attempts: u32) -> Error {
        let last = self.why;
        match key {
            Some(_) => Error::Unknown { key, last, attempts },
            None => Error::NotDone { last, attempts },
        }
    }

    pub fn told(problem: Problem) -> Self {
        let (meaning, retry_after) = (problem.meaning(), problem.retry_after);
        Self { meaning, retry_after, why: problem.to_string(), problem: Some(problem) }
    }

    pub fn lost(lost: &Lost) -> Self {
        let meaning = match lost {
            Lost::NotSent(_) => Meaning::NothingHappened,
            Lost::Broken(_) | Lost::TimedOut(_) => Meaning::Unknown,
        };
        Self { meaning, retry_after: None, why: lost.to_string(), problem: None }
    }
}
