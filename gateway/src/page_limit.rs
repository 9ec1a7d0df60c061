//! How many entries a page of a list has at most.

use crate::parameters::Parameters;

/// When the client does not say.
const LIMIT_DEFAULT: u16 = 20;
/// A database reads so many in a few milliseconds.
const LIMIT_MAX: u16 = 100;

/// Errors go to `parameters`.
pub fn read_limit(parameters: &mut Parameters) -> u16 {
    parameters.optional("limit", parse_limit).unwrap_or(LIMIT_DEFAULT)
}

fn parse_limit(text: &str) -> Result<u16, String> {
    let is_plain = !text.starts_with('+');
    let limit = text.parse().ok().filter(|limit| is_plain && (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be an integer from 1 to {LIMIT_MAX}"))
}
