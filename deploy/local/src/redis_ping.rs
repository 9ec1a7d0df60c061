//! The question whether a Redis lives.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A Redis that lives answers a PING in less than a millisecond.
const PING_WAIT: Duration = Duration::from_millis(500);

pub(crate) async fn answers(port: u16) -> bool {
    tokio::time::timeout(PING_WAIT, ping(port))
        .await
        .is_ok_and(|pong| pong.is_ok_and(|reply| &reply == b"+PONG"))
}

async fn ping(port: u16) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}
