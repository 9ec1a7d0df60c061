//! What a server says of itself: whether it takes writes, and on which timeline.
//!
//! Every promotion begins a timeline. Of several servers that take writes, the one on the highest is the primary; the others
//! were replaced and do not know it. So all of them are asked, at the same time, and the first to answer has no advantage.

use std::time::Duration;

use futures_util::future;
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

use crate::connection::{Connection, OpenError};
use crate::servers::Servers;
use crate::tls::Endpoint;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The timeline that it writes; `None` in recovery.
    pub timeline: Option<u32>,
    /// Whether its sessions cannot write: in recovery, or because its configuration says so.
    pub is_read_only: bool,
    /// When the server was started, in microseconds since 1970. Two servers hardly share it.
    pub started_us: i64,
}

impl Standing {
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let row = client.query_one(include_str!("sql/read_standing.sql"), &[]).await?;
        // Postgres counts timelines without a sign and has no such integer to show them.
        let timeline = row.get::<_, Option<i32>>(0).map(i32::cast_unsigned);
        Ok(Self { timeline, is_read_only: row.get(1), started_us: row.get(2) })
    }

    pub fn writes_on(&self) -> Option<u32> {
        self.timeline.filter(|_| !self.is_read_only)
    }
}

pub enum Answer {
    Stands(Connection, Standing),
    /// No server runs there, or none that lets anybody in yet.
    Refused(OpenError),
    /// Silence, or an error that leaves open what it is.
    Unknown(String),
}

pub async fn ask(server: &Endpoint, patience: Duration) -> Answer {
    let asked = async {
        let connection = Connection::open(server, patience).await?;
        let standing = Standing::read(&connection.client).await?;
        Ok((connection, standing))
    };
    match timeout(patience, asked).await {
        Ok(Ok((connection, standing))) => Answer::Stands(connection, standing),
        Ok(Err(error)) if OpenError::is_refusal(&error) => Answer::Refused(error),
        Ok(Err(error)) => Answer::Unknown(error.to_string()),
        Err(_) => Answer::Unknown(OpenError::TimedOut(patience).to_string()),
    }
}

/// Asks all servers at the same time; the answers are in their order.
pub async fn ask_all(servers: &Servers, patience: Duration) -> Vec<Answer> {
    future::join_all(servers.iter().map(|server| ask(server, patience))).await
}
