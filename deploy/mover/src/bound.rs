//! Which transactions are left for the pause.

use picopay_shared::id::TransactionId;
use uuid::Uuid;

/// Refusals have ids of their own, above all others, so there are two.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub booked: Uuid,
    pub refused: Uuid,
    /// The same bound for what has a time and no id: Unix time in milliseconds.
    pub time_ms: i64,
}

impl Bound {
    /// Those that were made at this time or later: Unix time in milliseconds.
    pub fn at(unix_ms: i64) -> Self {
        let first = TransactionId::first_at(unix_ms);
        Self { booked: first.as_uuid(), refused: first.of_refusal().as_uuid(), time_ms: unix_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_know_where_refusals_begin() {
        let first = format!("'{}'", TransactionId::first_refusal().as_uuid());
        for sql in [
            include_str!("sql/copy_newer_out.sql"),
            include_str!("sql/copy_older_out.sql"),
            include_str!("sql/count_older.sql"),
            include_str!("sql/digest_rest.sql"),
        ] {
            assert!(sql.contains(&first), "{sql}");
        }
    }
}
