//! Reads on their way to one node: the first goes at once, and those right behind it go together.
//!
//! The rule is that of charges (`pace.rs`): one request at most every `batch_interval`. Reads need no order,
//! so a batch does not wait for the one before it. A client that hangs up takes its read along.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use picopay_shared::read_batch::READ_BATCH_MAX;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::wire::CallError;

#[derive(Debug)]
pub struct ReadQueue {
    interval: Duration,
    line: Mutex<Line>,
    first: Notify,
}

#[derive(Debug)]
struct Line {
    next: Instant,
    waiting: Vec<Waiting>,
}

/// A read that waits for the next batch.
#[derive(Debug)]
pub struct Waiting {
    /// As it crosses the wire.
    pub request: Bytes,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Bytes, CallError>>,
}

/// How a read goes on.
#[derive(Debug)]
pub enum Turn {
    /// At once, and by itself.
    Now,
    /// With others. Their batch brings the answer.
    WithOthers(oneshot::Receiver<Result<Bytes, CallError>>),
}

impl ReadQueue {
    pub fn new(interval: Duration) -> Self {
        let line = Line { next: Instant::now(), waiting: Vec::new() };
        Self { interval, line: Mutex::new(line), first: Notify::new() }
    }

    pub fn enter(&self, request: &Bytes, deadline: Instant) -> Turn {
        let now = Instant::now();
        let mut line = self.line();
        if line.waiting.is_empty() && line.next <= now {
            line.next = now + self.interval;
            return Turn::Now;
        }
        let (reply, answer) = oneshot::channel();
        line.waiting.push(Waiting { request: request.clone(), deadline, reply });
        if line.waiting.len() == 1 {
            self.first.notify_one();
        }
        Turn::WithOthers(answer)
    }

    /// Waits until a read waits, and returns when the next batch may go.
    pub async fn next_batch_at(&self) -> Instant {
        loop {
            let next = {
                let line = self.line();
                (!line.waiting.is_empty()).then_some(line.next)
            };
            match next {
                Some(next) => return next,
                None => self.first.notified().await,
            }
        }
    }

    /// The next batch: who has waited longest, and waits still.
    pub fn take(&self) -> Vec<Waiting> {
        let mut line = self.line();
        line.waiting.retain(|waiting| !waiting.reply.is_closed());
        let count = line.waiting.len().min(READ_BATCH_MAX);
        let batch: Vec<Waiting> = line.waiting.drain(..count).collect();
        // A full batch could take no more company, so nobody waits for it.
        if !batch.is_empty() && count < READ_BATCH_MAX {
            line.next = Instant::now() + self.interval;
        }
        batch
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(2);

    fn enter(queue: &ReadQueue) -> Turn {
        queue.enter(&Bytes::new(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_read_goes_at_once_and_the_others_together_after_the_interval() {
        let (queue, began) = (ReadQueue::new(INTERVAL), Instant::now());
        assert!(matches!(enter(&queue), Turn::Now));
        let turns: Vec<Turn> = (0..3).map(|_| enter(&queue)).collect();
        assert!(turns.iter().all(|turn| matches!(turn, Turn::WithOthers(_))));
        assert_eq!(queue.next_batch_at().await, began + INTERVAL);
        // Late enough for one who comes alone. But others wait before it.
        tokio::time::advance(INTERVAL).await;
        let last = enter(&queue);
        assert!(matches!(last, Turn::WithOthers(_)));
        drop(turns);
        assert_eq!(queue.take().len(), 1, "three clients have hung up");
        assert!(matches!(enter(&queue), Turn::WithOthers(_)));
        tokio::time::advance(INTERVAL).await;
        assert!(queue.take().is_empty());
        assert!(matches!(enter(&queue), Turn::Now), "nobody was sent since");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_is_followed_at_once() {
        let (queue, began) = (ReadQueue::new(INTERVAL), Instant::now());
        let turns: Vec<Turn> = (0..=READ_BATCH_MAX + 1).map(|_| enter(&queue)).collect();
        tokio::time::advance(INTERVAL).await;
        assert_eq!(queue.take().len(), READ_BATCH_MAX);
        assert_eq!(queue.next_batch_at().await, began + INTERVAL);
        assert_eq!(queue.take().len(), 1);
        assert_eq!(turns.len(), READ_BATCH_MAX + 2);
    }

    #[test]
    fn without_an_interval_every_read_goes_at_once() {
        let queue = ReadQueue::new(Duration::ZERO);
        assert!((0..3).all(|_| matches!(enter(&queue), Turn::Now)));
    }
}
