//! A connection with two timeouts: a long one for the next request, a short one for the rest of a head.
//!
//! Each connection has one timer. When it fires, it looks at the clock and sleeps on if there was progress.
//! So a busy connection never touches it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use picopay_tls::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How often a request began or ended, shared by the connection and its service: odd while one is answered.
#[derive(Debug, Clone, Default)]
pub struct Phase(Arc<AtomicU64>);

impl Phase {
    pub fn begin_request(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end_request(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn turns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub struct PatientIo {
    stream: Stream,
    phase: Phase,
    head_timeout: Duration,
    idle_timeout: Duration,
    idle_since: Instant,
    head_since: Option<Instant>,
    /// The value of `phase` at the last look. A quick request begins and ends between two looks.
    turns_seen: u64,
    timer: Pin<Box<Sleep>>,
}

impl PatientIo {
    /// `began` is when the connection was accepted: what a TLS handshake took counts as part of the first head.
    pub fn new(
        stream: Stream,
        phase: Phase,
        began: Instant,
        head_timeout: Duration,
        idle_timeout: Duration,
    ) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(began + head_timeout.min(idle_timeout)));
        Self {
            stream,
            phase,
            head_timeout,
            idle_timeout,
            idle_since: began,
            // A client opens a connection to send something, so its first head has the short time.
            head_since: Some(began),
            turns_seen: 0,
            timer,
        }
    }

    /// When the current timeout ends; `None` while a request is answered.
    fn deadline(&mut self) -> Option<Instant> {
        let turns = self.phase.turns();
        if turns != self.turns_seen {
            self.turns_seen = turns;
            self.idle_since = Instant::now();
            self.head_since = None;
        }
        if turns % 2 == 1 {
            return None;
        }
        Some(match self.head_since {
            Some(since) => since + self.head_timeout,
            None => self.idle_since + self.idle_timeout,
        })
    }

    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            // While a request is answered, look again when a head could be late at the earliest.
            let deadline = self.deadline().unwrap_or(now + self.head_timeout);
            if deadline <= now {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client was too slow"));
            }
            let next_look = deadline.min(now + self.head_timeout);
            self.timer.as_mut().reset(next_look);
        }
        Poll::Pending
    }
}

impl AsyncRead for PatientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let has_come = buffer.filled().len() > before;
                let is_waiting = self.deadline().is_some();
                if has_come && is_waiting && self.head_since.is_none() {
                    self.head_since = Some(Instant::now());
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.poll_patience(context).map(Err),
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

/// A client that does not read its answer is closed like an idle one.
impl AsyncWrite for PatientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.poll_patience(context).map(Err),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
            Poll::Pending => self.poll_patience(context).map(Err),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
