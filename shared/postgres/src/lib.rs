//! How PicoPay's programs talk to PostgreSQL. Node, mover and operator's command rely on the same few rules, so each of
//! them stands here once: what a session sets for itself, how long a connect may take, which of several servers is the
//! primary, and when a COMMIT that reports success is one.
//!
//! And what each shard's database says of itself: who it is, which slots it owns, and whether it is degraded.
//! No query about money is here; those stand beside their callers.

mod commit;
mod connection;
mod db_error;
pub mod degradation;
mod error;
pub mod pace;
mod servers;
mod session;
mod shard_db;
mod shard_identity;
mod slot_owner;
mod standing;
mod tls;

pub use commit::{CommitError, Commits, Committed};
pub use connection::{Connection, OpenError};
pub use db_error::{DbError, Place};
pub use error::{describe, describe_with_detail, is_server_lost};
pub use servers::{Servers, address, addresses_of, databases_of, describe as describe_servers};
pub use session::set_session;
pub use shard_db::{Patience, ShardDb};
pub use shard_identity::{Identity, begin_with_identity, read_identity};
pub use slot_owner::{BadColumn, owner_from_row, owner_of, owner_of_columns};
pub use standing::{Answer, Standing, ask, ask_all};
pub use tls::{Endpoint, Tls};
