//! What every session sets for itself, so that no default of a server, a database or a role changes what it means.
//!
//! These go into the startup packet, where they come before what `ALTER ROLE`, `ALTER DATABASE` and `postgresql.conf` say
//! (PostgreSQL's `guc.h`, `GucSource`). Each caller adds its own time limits and plans.

use tokio_postgres::Config;

/// What a connection string may say otherwise, since its own `options` are an operator's explicit words.
///
/// - `search_path`: the tables are in `public`. A role with another path would find none, or somebody else's.
/// - Styles and quoting: a text that a server makes or reads means the same everywhere. `COPY` moves rows as text.
/// - Idle limits: connections wait for work for as long as it takes.
const UNLESS_SAID: &str = "-c search_path=public \
    -c datestyle=ISO,YMD -c intervalstyle=postgres -c timezone=UTC \
    -c standard_conforming_strings=on -c bytea_output=hex -c extra_float_digits=1 -c array_nulls=on \
    -c transform_null_equals=off -c row_security=on \
    -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0";

/// What nothing may change.
///
/// - `client_min_messages`: a COMMIT whose wait for the standby was cancelled says so in a warning, which `error` would hide.
/// - Isolation: the fence needs READ COMMITTED, in which each statement sees what the last holder of a lock committed.
///
/// Not `default_transaction_read_only`: where an operator or a provider sets it, they want no writes, and get none.
const ALWAYS: &str = "-c client_min_messages=warning \
    -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off";

/// Has the sessions of `config` set what they rely on, and `more` behind it. To be called once for each configuration.
pub fn set_session(config: &mut Config, more: &str) {
    // Of two options with one name, the last one counts.
    let given = config.get_options().unwrap_or_default().to_owned();
    config.options(format!("{UNLESS_SAID} {given} {ALWAYS} {more}"));
}
