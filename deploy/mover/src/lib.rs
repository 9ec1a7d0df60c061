//! Moving slots between shards: who owns which, which should change hands, and the handover itself.
//!
//! Only this crate changes who owns a slot that has an owner; `picopay init` deals them out. It prints nothing.
//!
//! Read in this order: `ownership`, `plan`, `queue` (which batches), `mover`, `handover` (the steps of a batch), `recovery`
//! (back to one owner).

pub mod ownership;

pub mod plan;

pub mod queue;

pub mod slot_runs;

mod mover;

mod batch;

mod step;

mod handover;

mod recovery;

mod purge;

pub mod user_tables;

mod owner;

mod side;

mod bound;

mod digest;

mod tally;

mod error;

pub use batch::{Batch, Figures, Limits};
pub use error::MoveError;
pub use mover::{Ended, Mover};
pub use recovery::Settled;
pub use side::MOVER_LOCK;
pub use step::{Step, Unwatched, Watcher};
