//! The question whether a Redis lives.

use std::time::Duration;

use picopay_tls::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http_call;

/// A Redis that lives answers a PING in less than a millisecond.
const PING_WAIT: Duration = Duration::from_millis(500);

/// Whoever asks for a password lives too.
pub(crate) async fn answers(port: u16, is_tls: bool) -> bool {
    tokio::time::timeout(PING_WAIT, ping(port, is_tls))
        .await
        .is_ok_and(|pong| pong.is_ok_and(|reply| [b"+PONG", b"-NOAU"].contains(&&reply)))
}

async fn ping(port: u16, is_tls: bool) -> std::io::Result<[u8; 5]> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut stream =
        if is_tls { http_call::over_tls("127.0.0.1", stream).await? } else { Stream::Plain(stream) };
    stream.write_all(b"PING\r\n").await?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}
