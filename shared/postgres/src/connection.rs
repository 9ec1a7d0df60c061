//! One connection, with a time limit from the first packet to the end of the login, that notices the server's warnings.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};

use crate::error::describe;
use crate::tls::{Endpoint, Tls};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("no connection: {}", describe(.0))]
    Failed(#[from] tokio_postgres::Error),
}

impl OpenError {
    /// Whether no server runs there that could take writes: nobody listens, or it is starting or ending. Silence is no such
    /// word, nor is a wrong password.
    pub fn is_refusal(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        if let Some(code) = error.code() {
            return *code == SqlState::CANNOT_CONNECT_NOW;
        }
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        // The second is a Unix socket that is not there.
        cause.is_some_and(|cause| {
            matches!(cause.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
        })
    }
}

pub struct Connection {
    pub client: Client,
    warning: Arc<Mutex<Option<String>>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to the one server that `endpoint` names. The driver's own `connect_timeout` covers the TCP connect only; a
    /// frozen server accepts that and never answers the login.
    pub async fn open(endpoint: &Endpoint, patience: Duration) -> Result<Self, OpenError> {
        debug_assert!(endpoint.config.get_hosts().len() < 2, "several servers are asked by `Servers`");
        let warning: Arc<Mutex<Option<String>>> = Arc::default();
        let ear = Arc::clone(&warning);
        let opening = async {
            match &endpoint.tls {
                Tls::Off => {
                    let (client, connection) = endpoint.config.connect(NoTls).await?;
                    Ok((client, tokio::spawn(drive(connection, ear))))
                }
                Tls::On(tls) => {
                    let (client, connection) = Box::pin(endpoint.config.connect(tls.clone())).await?;
                    Ok((client, tokio::spawn(drive(connection, ear))))
                }
            }
        };
        let opened: Result<_, tokio_postgres::Error> =
            timeout(patience, opening).await.map_err(|_| OpenError::TimedOut(patience))?;
        let (client, driver) = opened?;
        Ok(Self { client, warning, driver })
    }

    /// The last warning that the server sent since this was asked last.
    pub fn take_warning(&self) -> Option<String> {
        self.warning.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub fn into_parts(self) -> (Client, JoinHandle<()>) {
        (self.client, self.driver)
    }

    /// So that the server does not log a lost client. Waits for `patience` at most.
    pub async fn close(self, patience: Duration) {
        drop(self.client);
        let _ = timeout(patience, self.driver).await;
    }
}

/// Ends with the connection: when the client is dropped, or the server is gone. Whoever waits for an answer on it gets the
/// driver's error.
async fn drive<T: AsyncRead + AsyncWrite + Unpin>(
    mut connection: tokio_postgres::Connection<Socket, T>,
    ear: Arc<Mutex<Option<String>>>,
) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message {
            tracing::debug!(code = notice.code().code(), "postgres: {}", notice.message());
            if is_warning(&notice) {
                *ear.lock().unwrap_or_else(PoisonError::into_inner) = Some(notice.message().to_owned());
            }
        }
    }
}

/// Field V of a notice, or its code's class: neither is translated. Field S is: under `lc_messages = de_DE` a warning is a
/// WARNUNG (PostgreSQL, "Error and Notice Message Fields").
fn is_warning(notice: &DbError) -> bool {
    notice.parsed_severity() == Some(Severity::Warning) || notice.code().code().starts_with("01")
}
