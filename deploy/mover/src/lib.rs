//! Moving slots between shards: who owns which, which should change hands, and the handover itself.
//!
//! Only this room changes who owns a slot that has an owner (`picopay init` deals them out, once). It prints nothing and
//! reads no command line: the `picopay` command does, and so may whoever else moves slots.
//!
//! Read in this order: `ownership` is what the shards say, `plan` what should change, `queue` in which batches; `mover` runs
//! a batch by the steps of `handover`, and `recovery` brings back to one owner what was broken off.

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
