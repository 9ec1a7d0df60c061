//! How PicoPay's programs talk to PostgreSQL. Node, mover and operator's command rely on the same few rules, so each of
//! them stands here once: what a session sets for itself, how long a connect may take, which of several servers is the
//! primary, and when a COMMIT that reports success is one.
//!
//! No query about money is here; those stand beside their callers.

mod commit;
mod connection;
mod error;
mod servers;
mod session;
mod standing;

pub use commit::{CommitError, Commits, Committed};
pub use connection::{Connection, OpenError};
pub use error::{describe, describe_with_detail, is_server_lost};
pub use servers::{Servers, address, describe as describe_servers, parse};
pub use session::set_session;
pub use standing::{Answer, Standing, ask, ask_all};
