//! The table `access_log` of `gateway.toml`.

use std::num::NonZeroU32;

use serde::Deserialize;

/// Which requests get a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// By default only what an operator may have to look for.
    pub lines: AccessLines,
    /// Of requests that went well, one in so many, with `lines = "all"`. Others always have their line.
    pub one_success_in: NonZeroU32,
}

/// Whose lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLines {
    Off,
    /// Of requests whose status is 400 or above, or whose client hung up.
    Errors,
    All,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { lines: AccessLines::Errors, one_success_in: NonZeroU32::MIN }
    }
}
