//! The schema of a shard: what it is, whether a program may serve it, and how it is applied.
//!
//! The SQL in `sql/` is embedded. Migrations expand first and contract a release later, because old programs run beside
//! new ones while an operator rolls them over. Only `picopay init`, `shard add` and `migrate` apply them; a service looks
//! whether it can serve what it finds, and never changes it.
//!
//! # How to write one
//!
//! A file `V<number>__<what>.sql`, with the next number. It never changes once it is released. Its first line says what it
//! needs of whoever serves what it leaves behind: `-- oldest-known: 5` lets every program serve on that was built with V5.
//! Raise it only when an older one would do harm.
//!
//! It runs in one database transaction. A lock that it waits for makes every later statement on that table wait behind it,
//! so each try is short (`runner.rs`). What takes long must not hold a strong lock: add a constraint `NOT VALID` in one file
//! and `VALIDATE` it in the next.
//!
//! An index on a table in use is made by a file whose second line is `-- no transaction`. It holds nothing but
//! `CREATE INDEX CONCURRENTLY IF NOT EXISTS` and `DROP INDEX CONCURRENTLY IF EXISTS`, each ended by a semicolon at the end
//! of a line.

mod migration;
pub use migration::{Migration, all, newest_known};

mod schema;
pub use schema::{Schema, Unfit};

mod runner;
pub use runner::{MigrationError, Patience, Progress, apply};
