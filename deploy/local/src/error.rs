//! Why a local cluster could not do what it was asked: written for the person in front of the terminal.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

#[derive(thiserror::Error)]
pub enum LocalError {
    #[error("{what} was not found. {how_to_get_it}")]
    Missing { what: String, how_to_get_it: String },
    #[error("cannot {doing}: {source}")]
    System { doing: String, source: std::io::Error },
    #[error("{name} ended ({status}). The end of its log:\n{log}")]
    Ended { name: String, status: ExitStatus, log: String },
    #[error("{name} was not ready within {waited_s} s: {reason}. The end of its log:\n{log}")]
    NotReady { name: String, waited_s: u64, reason: String, log: String },
    #[error(
        "{address} is in use by another program. Stop that, or let PicoPay listen elsewhere: \
         PICOPAY_GATEWAY__LISTEN=127.0.0.1:8081"
    )]
    PortBusy { address: String },
    #[error("{name} ended: its port was taken by another program")]
    PortTaken { name: String },
    /// A second instance on the same folder.
    #[error(
        "another PicoPay cluster (process {pid}) runs in {}. Stop it, or use another folder with --data",
        folder.display()
    )]
    AlreadyRunning { folder: PathBuf, pid: String },
    #[error("{0}")]
    Unfit(String),
    #[error("cannot {doing}: {}", describe(source))]
    Postgres { doing: String, source: tokio_postgres::Error },
}

/// A test that unwraps it shows the log of the process that did not start, line by line.
impl fmt::Debug for LocalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl LocalError {
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }

    pub(crate) fn postgres(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Postgres { doing, source }
    }
}

/// `Display` of the driver's error is only "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db_error) => db_error.to_string(),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}
