//! What an error of the driver means, and its cause in one line.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// For a log. Its own `Display` is only "db error".
pub fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(cause) => format!("{} (SQLSTATE {})", cause.message(), cause.code().code()),
        None => match cause(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// For an operator's screen: with the server's detail, without the class of the error.
pub fn describe_with_detail(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return match said.detail() {
            Some(detail) => format!("{} ({detail}) [{}]", said.message(), said.code().code()),
            None => format!("{} [{}]", said.message(), said.code().code()),
        };
    }
    cause(error).unwrap_or_else(|| error.to_string())
}

/// What is below the driver's own words; of TLS, which side refused the other, and why.
fn cause(error: &Error) -> Option<String> {
    let source = std::error::Error::source(error)?;
    Some(source.downcast_ref().map_or_else(|| source.to_string(), picopay_tls::describe))
}

/// Whether this error says that the connection, and so the pool it came from, leads to the wrong server or nowhere:
/// read-only (a demoted primary), shutting down, crashed, starting up, or simply gone.
pub fn is_server_lost(error: &Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::ADMIN_SHUTDOWN
                || *code == SqlState::CRASH_SHUTDOWN
                || *code == SqlState::CANNOT_CONNECT_NOW
                || code.code().starts_with("08")
        }
    }
}
