//! Why a batch failed, and the outcome for its clients.

use picopay_postgres::describe;
use picopay_shared::command::{Attempt, Outcome};
use tokio_postgres::error::{DbError, SqlState};

use super::requests::Requests;
use super::suspects::Why;
use crate::store;

#[derive(Debug)]
pub enum StoreError {
    /// Rolled back; another try at once may succeed.
    Contended(String),
    /// Rolled back; somebody held the fence or a table for longer than `lock_timeout`.
    Blocked(String),
    /// Rolled back; somebody held the row of a user for that long.
    Held,
    /// Rolled back; a statement took longer than `statement_timeout`, or was cancelled.
    Slow(String),
    /// Rolled back; some key may have its answer already, and keys were not looked up.
    KeyTaken,
    /// Rolled back; the database does not accept some row.
    Refused(String),
    /// COMMIT was never reached. Nothing was written.
    Unreached(String),
    /// The same, because the connection ended: the server itself may be well.
    Cut(String),
    /// COMMIT was sent and its answer did not come, or came with a warning: written, or not.
    CommitUnanswered(String),
}

impl StoreError {
    pub fn of(error: &tokio_postgres::Error) -> Self {
        let reason = describe(error);
        let Some(code) = error.code() else {
            // No answer of the server, or one that the driver could not read.
            return Self::Cut(reason);
        };
        let passes = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            // "cached plan must not change result type", once after a migration.
            SqlState::FEATURE_NOT_SUPPORTED,
        ];
        if passes.contains(code) {
            return Self::Contended(reason);
        }
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Blocked(reason);
        }
        if *code == SqlState::UNIQUE_VIOLATION
            && let Some(store::ONE_PER_KEY | store::ONE_PER_CREDIT) =
                error.as_db_error().and_then(DbError::constraint)
        {
            return Self::KeyTaken;
        }
        // Two ids of a user are equal, one of a refusal, while the clock is behind the user's last stamp.
        // Another try makes other ids.
        if *code == SqlState::UNIQUE_VIOLATION
            && error.as_db_error().and_then(DbError::constraint) == Some(store::ONE_PER_ID)
        {
            return Self::Contended(reason);
        }
        // An operator or a limit ended it (class 57P), or the network did (class 08).
        if code.code().starts_with("57P") || code.code().starts_with("08") {
            return Self::Cut(reason);
        }
        if *code == SqlState::QUERY_CANCELED {
            return Self::Slow(reason);
        }
        match &code.code()[..2] {
            // The database does not accept the data, or a constraint failed: some row of the batch is wrong.
            "22" | "23" => Self::Refused(reason),
            // Out of space, shutting down, read-only: nothing is wrong with the batch.
            _ => Self::Unreached(reason),
        }
    }

    pub fn outcome(&self, attempts: &[&Attempt]) -> Outcome {
        let requests = Requests(attempts);
        match self {
            Self::Contended(reason) | Self::Blocked(reason) | Self::Slow(reason) => {
                tracing::warn!(reason, commands = attempts.len(), %requests, "a batch was given up");
                unavailable(reason)
            }
            Self::Held => unavailable(Why::Held.reason()),
            Self::Unreached(reason) | Self::Cut(reason) => unavailable(reason),
            Self::KeyTaken => unreachable!("such a batch is run again"),
            Self::Refused(reason) => {
                tracing::error!(
                    reason,
                    %requests,
                    "the database refuses a command that the rules let pass"
                );
                Outcome::Internal
            }
            Self::CommitUnanswered(reason) => {
                tracing::error!(
                    reason,
                    %requests,
                    commands = attempts.len(),
                    "the outcome of a batch is unknown"
                );
                Outcome::OutcomeUnknown
            }
        }
    }
}

fn unavailable(reason: &str) -> Outcome {
    Outcome::Unavailable { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::{Command, Operation};
    use picopay_shared::origin::Origin;
    use picopay_shared::slot::UserId;
    use uuid::Uuid;

    use super::*;
    use crate::log_lines::LogLines;

    fn attempt(request_id: &str, traceparent: Option<&str>) -> Attempt {
        let operation = Operation::CreateUser { user_id: UserId::try_from(1).unwrap() };
        let origin =
            Origin { request_id: request_id.to_owned(), traceparent: traceparent.map(str::to_owned) };
        let command = Command {
            fingerprint: operation.fingerprint(),
            operation,
            idempotency_key: Uuid::nil(),
            is_client_key: true,
            origin,
            made_by: None,
        };
        Attempt { command, epoch: 1 }
    }

    #[test]
    fn a_batch_that_came_to_nothing_is_logged_with_the_traces_of_its_requests() {
        let traced = attempt("mine", Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let other = attempt("yours", None);
        for error in [
            StoreError::Contended("deadlock".to_owned()),
            StoreError::Refused("numeric field overflow".to_owned()),
            StoreError::CommitUnanswered("no answer".to_owned()),
        ] {
            let (lines, _logging) = LogLines::start();
            drop(error.outcome(&[&traced, &other]));
            let line = lines.text();
            let told = "requests=mine/4bf92f3577b34da6a3ce929d0e0e4736 yours";
            assert!(line.contains(told), "{told} in {line}");
        }
        let many: Vec<&Attempt> = std::iter::repeat_n(&other, 10).collect();
        let (lines, _logging) = LogLines::start();
        drop(StoreError::Contended("deadlock".to_owned()).outcome(&many));
        let line = lines.text();
        assert!(line.contains("yours yours and 2 more"), "{line}");
    }
}
