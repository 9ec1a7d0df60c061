//! One migration: its number, what it does, and what it asks of those who serve what it leaves behind.

use std::fmt;

mod embedded {
    refinery::embed_migrations!("sql");
}

/// The first lines of a file, after which its SQL comes.
const OLDEST_KNOWN: &str = "-- oldest-known:";
const NO_TRANSACTION: &str = "-- no transaction";

#[derive(Debug, Clone)]
pub struct Migration {
    number: i32,
    name: String,
    sql: String,
    /// Refinery's, which existing clusters have in their history.
    checksum: u64,
}

impl Migration {
    /// One that is not of this crate's files, for tests: `file` is for example `V900__more`.
    pub fn new(file: &str, sql: &str) -> Self {
        Self::of(&refinery::Migration::unapplied(file, sql).expect("a name like V900__more"))
    }

    fn of(embedded: &refinery::Migration) -> Self {
        Self {
            number: embedded.version(),
            name: embedded.name().to_owned(),
            sql: embedded.sql().expect("it is embedded with its text").to_owned(),
            checksum: embedded.checksum(),
        }
    }

    pub fn number(&self) -> i32 {
        self.number
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn sql(&self) -> &str {
        &self.sql
    }

    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// `None` when nothing changes about that.
    pub fn oldest_known(&self) -> Option<i32> {
        self.sql.lines().find_map(|line| line.strip_prefix(OLDEST_KNOWN)?.trim().parse().ok())
    }

    /// All are but those that make indexes of tables in use.
    pub fn is_transactional(&self) -> bool {
        !self.sql.lines().any(|line| line.trim_end() == NO_TRANSACTION)
    }

    /// Only of one that is not transactional: elsewhere a semicolon may end a line and no statement.
    pub fn statements(&self) -> impl Iterator<Item = String> {
        let lines = self.sql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let (mut statements, mut statement) = (Vec::new(), String::new());
        for line in lines {
            statement.push_str(line.trim());
            if statement.ends_with(';') {
                statements.push(std::mem::take(&mut statement));
            } else if !statement.is_empty() {
                statement.push(' ');
            }
        }
        statements.into_iter()
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "V{}__{}", self.number, self.name)
    }
}

pub fn all() -> Vec<Migration> {
    let mut all: Vec<Migration> =
        embedded::migrations::runner().get_migrations().iter().map(Migration::of).collect();
    all.sort_by_key(Migration::number);
    all
}

pub fn newest_known() -> i32 {
    all().last().map_or(0, Migration::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_and_every_file_says_what_it_needs() {
        let all = all();
        let numbers: Vec<i32> = all.iter().map(Migration::number).collect();
        assert_eq!(
            numbers,
            (1..=newest_known()).collect::<Vec<_>>(),
            "numbers are given once, without a gap"
        );
        // The first four are from before there was anything to say, and a released file never changes.
        let mut before = 5;
        for migration in all.iter().filter(|migration| migration.number() > 4) {
            let first = migration.sql().lines().next().unwrap_or_default();
            let says = migration.oldest_known().filter(|_| first.starts_with(OLDEST_KNOWN));
            let oldest = says.unwrap_or_else(|| {
                panic!("{migration}: its first line must be `{OLDEST_KNOWN} {before}`, or a higher number")
            });
            assert!(
                (before..=migration.number()).contains(&oldest),
                "{migration}: {oldest} is below {before}, or above itself"
            );
            before = oldest;
        }
    }

    #[test]
    fn what_runs_outside_of_a_database_transaction_can_be_run_again() {
        for migration in all().iter().filter(|migration| !migration.is_transactional()) {
            for statement in migration.statements() {
                let is_safe =
                    ["CREATE INDEX CONCURRENTLY IF NOT EXISTS ", "DROP INDEX CONCURRENTLY IF EXISTS "]
                        .iter()
                        .chain(&["CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "])
                        .any(|start| statement.starts_with(start));
                assert!(is_safe, "{migration}: {statement}");
            }
        }
    }

    #[test]
    fn a_file_is_taken_apart_line_by_line() {
        let text = "-- oldest-known: 7\n-- no transaction\n-- Why.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS one\n    ON \
                    t (a);\n\nDROP INDEX CONCURRENTLY IF EXISTS two;\n";
        let migration = Migration::new("V8__indexes", text);
        assert_eq!((migration.oldest_known(), migration.is_transactional()), (Some(7), false));
        assert_eq!(
            migration.statements().collect::<Vec<_>>(),
            [
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS one ON t (a);",
                "DROP INDEX CONCURRENTLY IF EXISTS two;"
            ]
        );
        let plain = Migration::new("V9__plain", "CREATE TABLE t ();");
        assert_eq!((plain.oldest_known(), plain.is_transactional()), (None, true));
        assert_eq!(plain.to_string(), "V9__plain");
    }
}
