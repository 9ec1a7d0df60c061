//! The named steps of a move, and who may watch them.

use futures_util::future::{BoxFuture, ready};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Import,
    Clean,
    /// Users and older transactions are copied, while charges go on.
    Copy,
    Compare,
    /// The target's rows are locked, so that nobody else ends or aborts this import.
    Lock,
    /// The source gives the slots up: from here on their users wait.
    Release,
    Tail,
    Verify,
    /// The target takes the slots: their users go on.
    Take,
    Done,
    Abort,
    /// The source takes the slots back: their users go on.
    TakeBack,
}

impl Step {
    /// All that a move takes when nothing goes wrong, in their order.
    pub const ALL: [Self; 10] = [
        Self::Import,
        Self::Clean,
        Self::Copy,
        Self::Compare,
        Self::Lock,
        Self::Release,
        Self::Tail,
        Self::Verify,
        Self::Take,
        Self::Done,
    ];
}

pub trait Watcher: Send + Sync {
    /// The mover is about to do this, and waits until it may.
    fn reached(&self, step: Step) -> BoxFuture<'_, ()> {
        let _ = step;
        Box::pin(ready(()))
    }

    fn rows(&self, rows: u64) {
        let _ = rows;
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watcher for Unwatched {}
