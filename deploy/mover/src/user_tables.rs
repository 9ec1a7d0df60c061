//! The tables whose rows belong to users and move with their slot: how each is filled and emptied.
//!
//! The database has the same list in its view `rows_of_users`, for whoever counts rows. A test holds both against the tables
//! that have a slot and a user, and against their columns.

pub struct UserTable {
    pub name: &'static str,
    /// How rows come in. All columns: what is not copied would be lost.
    pub copy_in: &'static str,
    pub delete: &'static [&'static str],
}

/// Rows that name others first, as they are deleted.
pub const USER_TABLES: [UserTable; 7] = [
    UserTable {
        name: "transfers",
        copy_in: include_str!("sql/copy_transfers_in.sql"),
        delete: &[include_str!("sql/delete_transfers.sql")],
    },
    UserTable {
        name: "transfer_credits",
        copy_in: include_str!("sql/copy_credits_in.sql"),
        delete: &[include_str!("sql/delete_credits.sql")],
    },
    UserTable {
        name: "holds",
        copy_in: include_str!("sql/copy_holds_in.sql"),
        delete: &[include_str!("sql/delete_holds.sql")],
    },
    UserTable {
        name: "refund_totals",
        copy_in: include_str!("sql/copy_refund_totals_in.sql"),
        delete: &[include_str!("sql/delete_refund_totals.sql")],
    },
    UserTable {
        name: "transactions",
        copy_in: include_str!("sql/copy_transactions_in.sql"),
        delete: &[include_str!("sql/delete_refunds.sql"), include_str!("sql/delete_transactions.sql")],
    },
    UserTable {
        name: "balances",
        copy_in: include_str!("sql/copy_balances_in.sql"),
        delete: &[include_str!("sql/delete_balances.sql")],
    },
    UserTable {
        name: "users",
        copy_in: include_str!("sql/copy_users_in.sql"),
        delete: &[include_str!("sql/delete_users.sql")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_copied_compared_and_emptied_by_its_name() {
        let compared = include_str!("sql/digest_rest.sql");
        for UserTable { name, copy_in, delete } in USER_TABLES {
            assert!(copy_in.starts_with(&format!("COPY {name} (")), "{name}");
            assert!(compared.contains(&format!("FROM {name} ")), "{name}");
            assert!(delete.iter().all(|sql| sql.contains(&format!("DELETE FROM {name}"))), "{name}");
        }
    }
}
