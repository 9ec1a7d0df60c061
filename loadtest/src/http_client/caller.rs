//! One request at a time, waiting for its answer: for the steps around a load, never for the load itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use picopay_tls::describe;
use rustls::StreamOwned;

use super::response::{self, Read as Answer};
use super::target::Target;

/// Longer than a gateway's own deadline, so that its problem still arrives.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub struct Caller {
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub is_replayed: bool,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.body).ok()
    }
}

impl Caller {
    pub fn new(target: Target) -> Self {
        Self { target }
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Reply> {
        let mut request = Vec::new();
        self.target.form("GET", path).write_get(&mut request, |_| {});
        self.exchange(&request)
    }

    /// Writes. An empty key is not sent.
    pub fn post(&self, path: &str, idempotency_key: &str, body: &str) -> anyhow::Result<Reply> {
        let mut request = Vec::new();
        self.target.form("POST", path).write_post(&mut request, idempotency_key.as_bytes(), body.as_bytes());
        self.exchange(&request)
    }

    fn exchange(&self, request: &[u8]) -> anyhow::Result<Reply> {
        let url = self.target.url();
        let mut stream = TcpStream::connect_timeout(&self.target.address(), PATIENCE)
            .with_context(|| format!("no gateway answers at {url}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match self.target.tls() {
            None => self.exchange_on(&mut stream, request),
            Some(tls) => self.exchange_on(&mut StreamOwned::new(tls.begin()?, stream), request),
        }
    }

    fn exchange_on(&self, stream: &mut (impl Read + Write), request: &[u8]) -> anyhow::Result<Reply> {
        let url = self.target.url();
        // The handshake is part of it.
        let sent = stream.write_all(request);
        sent.map_err(|error| anyhow!("{url} ended the connection: {}", describe(&error)))?;
        let (mut input, mut chunk) = (Vec::new(), [0_u8; 8 * 1024]);
        loop {
            let read = stream.read(&mut chunk);
            let count = read.map_err(|error| anyhow!("{url} did not answer: {}", describe(&error)))?;
            if count == 0 {
                bail!("{url} ended the connection without an answer");
            }
            input.extend_from_slice(&chunk[..count]);
            let read = response::read(&input)
                .with_context(|| format!("{url} does not speak as a PicoPay gateway does"))?;
            if let Answer::Complete(head) = read {
                let body = String::from_utf8_lossy(&input[head.body]).into_owned();
                return Ok(Reply { status: head.status, is_replayed: head.is_replayed, body });
            }
        }
    }
}
