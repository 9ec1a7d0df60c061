//! Promises broken on purpose, so that `make chaos` and `make grow` can show that they would notice.
//!
//! Not in the product: this room and every call of it are compiled with the feature `broken` only, and even then they
//! sleep in `picopay-node`. A program of its own, `picopay-node-broken`, wakes them, and it does not start unless
//! [`BROKEN_ENV`] names the promise. Nothing but those runs starts that program.

use std::borrow::Cow;
use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use picopay_postgres::{Commits, Committed};
use picopay_shared::command::Outcome;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::book::Recorded;

/// The environment variable that names the promise to break.
pub const BROKEN_ENV: &str = "PICOPAY_BROKEN";

/// How long after the answers COMMIT follows: under load nearly always, so that a process that is killed at any moment
/// has most likely acknowledged something that is lost. Below the time that another node waits for a lock.
const LATE_BY: Duration = Duration::from_millis(100);

/// Which promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// No answer precedes its COMMIT.
    AnswerAfterCommit,
    /// A key has one transaction.
    OncePerKey,
    /// No write skips the fence.
    OnlyOwnSlots,
}

static BROKEN: OnceLock<Promise> = OnceLock::new();

/// Breaks the promise that the environment names, for the life of this process.
///
/// # Errors
/// When it names none.
pub fn break_promise() -> Result<(), String> {
    let promise = match env::var(BROKEN_ENV).as_deref() {
        Ok("answer-before-commit") => Promise::AnswerAfterCommit,
        Ok("skip-key-check") => Promise::OncePerKey,
        Ok("skip-fence") => Promise::OnlyOwnSlots,
        _ => {
            return Err(format!(
                "this node breaks a promise on purpose and must never serve anybody; {BROKEN_ENV} takes \
                 answer-before-commit, skip-key-check or skip-fence"
            ));
        }
    };
    BROKEN.set(promise).map_err(|_| "a promise is broken already".to_owned())
}

fn is_broken(promise: Promise) -> bool {
    BROKEN.get() == Some(&promise)
}

/// Commits a batch; not yet, when answers go out before.
pub(crate) async fn commit(commits: &Commits, client: &Client) -> Result<Committed, tokio_postgres::Error> {
    if is_broken(Promise::AnswerAfterCommit) {
        commits.pretend(client).await
    } else {
        commits.commit(client).await
    }
}

/// After the answers of a batch went out: the COMMIT that should have come before. Whether it succeeds, nobody asks.
pub(crate) async fn commit_late(client: &Client) {
    if is_broken(Promise::AnswerAfterCommit) {
        tokio::time::sleep(LATE_BY).await;
        let _ = client.batch_execute("COMMIT").await;
    }
}

/// After a batch that failed: there was no COMMIT behind it that would have rolled it back.
pub(crate) async fn roll_back(client: &Client) {
    if is_broken(Promise::AnswerAfterCommit) {
        let _ = client.batch_execute("ROLLBACK").await;
    }
}

/// The rows of a batch under keys of their own, which no constraint ever finds taken.
pub(crate) fn under_fresh_keys(rows: &[Recorded]) -> Cow<'_, [Recorded]> {
    if !is_broken(Promise::OncePerKey) {
        return Cow::Borrowed(rows);
    }
    let mut rows = rows.to_vec();
    for row in &mut rows {
        row.transaction.idempotency_key = Uuid::new_v4();
    }
    Cow::Owned(rows)
}

/// Answers given before, forgotten.
pub(crate) fn forget(answers: &mut [Option<Outcome>]) {
    if is_broken(Promise::OncePerKey) {
        answers.fill(None);
    }
}

/// Whether every slot passes the fence, whoever owns it.
pub(crate) fn skips_fence() -> bool {
    is_broken(Promise::OnlyOwnSlots)
}
