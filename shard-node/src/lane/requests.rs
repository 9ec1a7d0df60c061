//! The requests of a batch, as a log line or a span names them. Formatted only when it is written.

use std::fmt;

use picopay_shared::command::Attempt;

/// Requests that one line names. A batch has hundreds, and a line must stay readable.
const NAMED_MAX: usize = 8;

pub struct Requests<'a>(pub &'a [&'a Attempt]);

impl fmt::Display for Requests<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, attempt) in self.0.iter().take(NAMED_MAX).enumerate() {
            let separator = if number == 0 { "" } else { " " };
            write!(formatter, "{separator}{}", attempt.command.origin)?;
        }
        match self.0.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}
