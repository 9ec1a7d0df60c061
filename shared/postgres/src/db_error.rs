//! What goes wrong between a program and a shard's database, in one line that says which database, and no password.

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;

/// Which database of a shard, for messages: it never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub(crate) String);

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("{place}: the connection string is wrong: {reason}")]
    ConnectionString { place: Place, reason: String },
    #[error("{place}: cannot connect: {reason}")]
    Unreachable { place: Place, reason: String },
    #[error("{place}: {reason}")]
    Failed { place: Place, reason: String, code: Option<SqlState> },
    /// It is not the database that it is taken for, or not one that this program can serve.
    #[error("{place}: {reason}")]
    Unfit { place: Place, reason: String },
    #[error("{place}: no answer in {} s{hint}", .after.as_secs())]
    Timeout { place: Place, after: Duration, hint: &'static str },
}

impl DbError {
    /// Whether a lock was not to be had within `lock_timeout`. The database transaction is rolled back then, and the
    /// connection as good as before.
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if *code == SqlState::LOCK_NOT_AVAILABLE)
    }
}
