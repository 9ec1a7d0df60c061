//! TLS on every hop: certificates read from files and checked, and what a server or a client of PicoPay shows and demands.
//!
//! One cryptographic provider for the whole process, named wherever a configuration is made. Nothing here knows of
//! PostgreSQL, shards or `cluster.toml`; those who do hand over the names of files.

#![warn(missing_docs)]

mod authorities;
mod certificate;
mod client;
mod connector;
mod fault;
mod identity;
mod provider;
mod server;
mod stream;
mod trouble;

pub use authorities::Authorities;
pub use certificate::subject_as_read;
pub use client::{Caller, Check, database_client};
pub use connector::{CallStream, Connector};
pub use fault::Fault;
pub use identity::Identity;
pub use provider::provider;
pub use server::{ClientCertificates, Front, Handshake};
pub use stream::Stream;
pub use trouble::{describe, refused_certificate};
