//! Who takes something first: its sender, or the caller that gives up.

use std::sync::atomic::{AtomicU8, Ordering};

/// Decides, once, whether something is sent or given up. So a timeout can say "nothing happened" or "maybe".
/// Used for a command in its lane and for a request that waits for a connection.
#[derive(Debug, Default)]
pub struct Ticket(AtomicU8);

impl Ticket {
    const WAITING: u8 = 0;
    const SENT: u8 = 1;
    const GIVEN_UP: u8 = 2;

    pub fn send(&self) -> bool {
        self.take(Self::SENT)
    }

    pub fn give_up(&self) -> bool {
        self.take(Self::GIVEN_UP)
    }

    fn take(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_either_sent_or_given_up_never_both() {
        let ticket = Ticket::default();
        assert!(ticket.send());
        assert!(!ticket.give_up());
        let ticket = Ticket::default();
        assert!(ticket.give_up());
        assert!(!ticket.send());
    }
}
