//! One attempt at the gateway, and what its answer is: a decision, an error that passes, or a broken promise.

use std::sync::Arc;
use std::time::Duration;

use picopay_client::{Answer, Exchange};
use picopay_shared::slot::UserId;
use serde_json::Value;

use super::clock::Clock;
use super::errors::{Errors, Failure};
use super::ledger::{AcknowledgedWrite, Ledger};
use super::what::What;
use crate::account::{Asking, Reply, is_decision, is_pending};
use crate::findings::{Finding, Findings, Promise};
use picopay_loadtest::batch_answer::{BatchAnswer, BatchResult};
use picopay_loadtest::shard_map::ShardMap;
use picopay_loadtest::traffic::problem_code;
use picopay_loadtest::write::{Write, describe, text, write_batch_body, write_body};

/// Many times the lag beyond which a replica answers nothing, so that any replica finds the transaction.
const FOUND_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Client {
    /// A new connection each time, so that no pool hides a fault.
    pub exchange: Exchange,
    pub ledger: Arc<Ledger>,
    pub errors: Arc<Errors>,
    pub findings: Findings,
    pub shards: Arc<ShardMap>,
    pub clock: Clock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Decided,
    TryAgain,
}

impl Client {
    pub async fn write(&self, write: &Write, asking: Asking) -> Attempt {
        self.write_for(write, asking, None).await
    }

    /// Hangs up after `patience`.
    pub async fn write_for(&self, write: &Write, asking: Asking, patience: Option<Duration>) -> Attempt {
        self.ledger.note_attempt(write);
        let mut body = Vec::new();
        write_body(write, self.ledger.currency(), &mut body);
        let path = write.wish.path();
        let key = text(&write.key).parse().expect("keys are UUIDs");
        let began = self.clock.now();
        let call = self.exchange.post(&path, Some(key), body);
        let Ok(answer) = tokio::time::timeout(patience.unwrap_or(Duration::MAX), call).await else {
            // Its own doing, so no error of the cluster's.
            self.ledger.note_unknown(write);
            return Attempt::TryAgain;
        };
        let what = match answer {
            Err(error) => What::Lost(error.to_string()),
            Ok(answer) if is_decision(write, answer.status, &answer.body) => {
                let reply = Reply {
                    status: answer.status,
                    is_replayed: answer.is_replayed(),
                    session: answer.session().map(str::as_bytes),
                    body: &answer.body,
                };
                self.ledger.take(write, reply, asking);
                return Attempt::Decided;
            }
            Ok(answer) if is_pending(write, answer.status) => {
                let reply = Reply {
                    status: answer.status,
                    is_replayed: answer.is_replayed(),
                    session: None,
                    body: &answer.body,
                };
                let is_right = self.ledger.take_pending(write, reply);
                return if is_right { Attempt::TryAgain } else { Attempt::Decided };
            }
            Ok(answer) => match self.read_problem(&answer, &describe(write)) {
                Some(what) => what,
                // Told already as a finding; to try again would only repeat it.
                None => return Attempt::Decided,
            },
        };
        self.fail_write(write, began, what);
        Attempt::TryAgain
    }

    /// Sends all of them in one request, and returns how each ended.
    pub async fn write_batch(&self, writes: &[Write], asking: Asking) -> Vec<Attempt> {
        for write in writes {
            self.ledger.note_attempt(write);
        }
        let mut body = Vec::new();
        write_batch_body(writes.iter(), self.ledger.currency(), &mut body);
        let began = self.clock.now();
        let asked = format!("a batch of {}, the first of which is {}", writes.len(), describe(&writes[0]));
        let answer = match self.exchange.post("/v1/batch", None, body).await {
            Err(error) => return self.fail_all(writes, began, &What::Lost(error.to_string())),
            Ok(answer) if answer.status != 200 => {
                return match self.read_problem(&answer, &asked) {
                    Some(what) => self.fail_all(writes, began, &what),
                    None => vec![Attempt::Decided; writes.len()],
                };
            }
            Ok(answer) => answer,
        };
        let keys: Vec<_> = writes.iter().map(|write| &write.key).collect();
        let results = match BatchAnswer::read(&answer.body, &keys) {
            Ok(answer) => answer.results,
            Err(what) => {
                let text = format!("{asked}: {what}");
                let (promise, at) = (Promise::RightAnswers, Some(self.clock.now()));
                self.findings.add(Finding { promise, text, at, words: Vec::new() });
                return vec![Attempt::Decided; writes.len()];
            }
        };
        let session = answer.session().map(str::as_bytes);
        let judge = |(write, BatchResult { status, replayed, body, .. }): (&Write, BatchResult<'_>)| {
            let body = body.get().as_bytes();
            if is_decision(write, status, body) {
                let reply = Reply { status, is_replayed: replayed, session, body };
                self.ledger.take(write, reply, asking);
                return Attempt::Decided;
            }
            let code = problem_code(status, body).into_owned();
            if status < 500 || code.is_empty() {
                let text = format!("{}: {status} {}", describe(write), String::from_utf8_lossy(body));
                self.findings.add(Finding::about_key(
                    Promise::RightAnswers,
                    text,
                    write.key,
                    self.clock.now(),
                ));
                return Attempt::Decided;
            }
            self.fail_write(write, began, What::Problem { status, code });
            Attempt::TryAgain
        };
        writes.iter().zip(results).map(judge).collect()
    }

    fn fail_all(&self, writes: &[Write], began: Duration, what: &What) -> Vec<Attempt> {
        for write in writes {
            self.fail_write(write, began, what.clone());
        }
        vec![Attempt::TryAgain; writes.len()]
    }

    fn fail_write(&self, write: &Write, began: Duration, what: What) {
        if what.leaves_outcome_unknown() {
            self.ledger.note_unknown(write);
        }
        self.fail(write.user, true, began, what);
    }

    pub async fn make_user(&self, user: UserId) -> bool {
        let body = format!("{{\"user_id\":{user}}}");
        let answer = self.exchange.post("/v1/users", None, body).await;
        answer.is_ok_and(|answer| matches!(answer.status, 200 | 201))
    }

    /// `None` after an error that may pass.
    pub async fn read(&self, user: UserId, path: &str) -> Option<Value> {
        self.read_after(user, path, None).await
    }

    async fn read_after(&self, user: UserId, path: &str, session: Option<&str>) -> Option<Value> {
        let began = self.clock.now();
        let what = match self.exchange.get(&format!("/v1{path}"), session).await {
            Err(error) => What::Lost(error.to_string()),
            Ok(answer) if matches!(answer.status, 200 | 404) => return Some(answer.json()),
            Ok(answer) => self.read_problem(&answer, path)?,
        };
        self.fail(user, false, began, what);
        None
    }

    pub async fn read_balance(&self, user: UserId) -> bool {
        let path = format!("/users/{user}/balance");
        let Some(answer) = self.read(user, &path).await else { return false };
        self.expect(answer["user_id"].as_i64() == Some(user.get()), &path, &answer);
        true
    }

    pub async fn read_history(&self, user: UserId) -> bool {
        let path = format!("/transactions?user_id={user}&limit=20");
        let Some(answer) = self.read(user, &path).await else { return false };
        let rows = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_right = answer["data"].is_array()
            && rows.iter().all(|row| row["user_id"].as_i64() == Some(user.get()))
            && rows.windows(2).all(|pair| pair[0]["id"].as_str() > pair[1]["id"].as_str());
        self.expect(is_right, &path, &answer);
        true
    }

    /// Looks up an acknowledged write, with or without its session.
    pub async fn look_up(&self, acknowledged: &AcknowledgedWrite, with_session: bool) -> bool {
        let path = format!("/transactions/{}", text(&acknowledged.id));
        let is_old = self.clock.now().saturating_sub(acknowledged.at) > FOUND_AFTER;
        let session = acknowledged.session.as_deref().filter(|_| with_session);
        let Some(answer) = self.read_after(acknowledged.write.user, &path, session).await else {
            return false;
        };
        let found = &answer["transaction"];
        let is_same = found["id"].as_str().is_some_and(|id| id.as_bytes() == acknowledged.id)
            && found["idempotency_key"].as_str().is_some_and(|key| key.as_bytes() == acknowledged.write.key);
        self.expect(is_same || (found.is_null() && session.is_none() && !is_old), &path, &answer);
        true
    }

    fn expect(&self, is_right: bool, path: &str, answer: &Value) {
        if !is_right {
            let text = format!("GET {path} was answered {answer}");
            self.findings.add(Finding {
                promise: Promise::RightAnswers,
                text,
                at: Some(self.clock.now()),
                words: vec![path.rsplit('/').next().unwrap_or_default().to_owned()],
            });
        }
    }

    /// `None`, and a finding, when the error is not allowed.
    fn read_problem(&self, answer: &Answer, asked: &str) -> Option<What> {
        let problem = answer.json();
        let code = problem["code"].as_str().unwrap_or_default().to_owned();
        let is_whole = match answer.status {
            503 => answer.header("retry-after").is_some() && !code.is_empty(),
            status => status > 500 && !code.is_empty(),
        };
        if is_whole {
            return Some(What::Problem { status: answer.status, code });
        }
        let text = format!("{asked} was answered {} {}", answer.status, answer.text());
        let promise = if answer.status >= 500 { Promise::AllowedErrors } else { Promise::RightAnswers };
        let request_id = answer.header("x-request-id").unwrap_or_default().to_owned();
        self.findings.add(Finding { promise, text, at: Some(self.clock.now()), words: vec![request_id] });
        None
    }

    fn fail(&self, user: UserId, is_write: bool, began: Duration, what: What) {
        let shard = self.shards.index_of(user.slot());
        self.errors.add(Failure { user, shard, is_write, began, ended: self.clock.now(), what });
    }
}
