//! Reads to one node: alone, or with others in one request.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use picopay_shared::node_status::READS_TOGETHER;
use picopay_shared::read_batch::Frame;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::Node;
use crate::pace::Alarm;
use crate::read_queue::{Turn, Waiting};
use crate::wire::{Ask, CallError, left_ms};

impl Node {
    /// Sends one read, and returns its answer.
    pub(super) async fn read(&self, request: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
        if self.wire_version() >= READS_TOGETHER {
            let answer = match self.reads.enter(&request, deadline) {
                Turn::Now => {
                    let mut answer = None;
                    let sent = self.send(&[(&request, deadline)], |_, told| answer = Some(told)).await;
                    answer.ok_or(sent.err().unwrap_or(CallError::Unanswered))
                }
                Turn::WithOthers(answer) => match timeout_at(deadline, answer).await {
                    Ok(Ok(answer)) => answer,
                    // The gateway is ending, and nothing was sent.
                    Ok(Err(_dropped)) => Err(CallError::Unreachable),
                    Err(_elapsed) => Err(CallError::Unanswered),
                },
            };
            // A node of the release before may have taken this one's place since its last status.
            if answer != Err(CallError::Rejected) {
                return answer;
            }
        }
        self.call(Ask::Read, request, deadline).await
    }

    /// Sends these reads in one request. `tell` is given each answer with its read's place, as it arrives.
    async fn send(
        &self,
        reads: &[(&Bytes, Instant)],
        mut tell: impl FnMut(usize, Bytes) + Send,
    ) -> Result<(), CallError> {
        let mut body = Vec::with_capacity(reads.iter().map(|(request, _)| request.len() + 8).sum());
        for (request, deadline) in reads {
            Frame::write(&mut body, left_ms(*deadline), request);
        }
        let latest = reads.iter().map(|(_, deadline)| *deadline).max().expect("there is one");
        let mut rest = Bytes::new();
        let mut take = |piece: Bytes| {
            rest = if rest.is_empty() { piece } else { joined(&rest, &piece) };
            while let Some(frame) = Frame::read(&rest) {
                let place = usize::try_from(frame.number).unwrap_or(usize::MAX);
                tell(place, rest.slice(frame.body.clone()));
                rest = rest.slice(frame.body.end..);
            }
        };
        let node = (&self.target, &self.clock);
        self.wire.call_and_take(Ask::ReadBatch, node, body.into(), latest, &mut take).await
    }

    async fn send_batch(&self, batch: Vec<Waiting>) {
        let (mut reads, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Waiting { request, deadline, reply } in batch {
            reads.push((request, deadline));
            replies.push(Some(reply));
        }
        let reads: Vec<(&Bytes, Instant)> =
            reads.iter().map(|(request, deadline)| (request, *deadline)).collect();
        let sent = self
            .send(&reads, |place, answer| {
                if let Some(reply) = replies.get_mut(place).and_then(Option::take) {
                    let _ = reply.send(Ok(answer));
                }
            })
            .await;
        let mut error = sent.err().unwrap_or(CallError::Unanswered);
        let left: Vec<_> = replies.into_iter().flatten().collect();
        if sent.is_ok() && !left.is_empty() {
            error!(node = self.target.url, left = left.len(), "the node left reads unanswered");
        }
        for reply in left {
            let _ = reply.send(Err(error));
            if error == CallError::Unanswered {
                error = CallError::UnansweredToo;
            }
        }
    }
}

fn joined(one: &[u8], other: &[u8]) -> Bytes {
    let mut joined = BytesMut::with_capacity(one.len() + other.len());
    joined.extend_from_slice(one);
    joined.extend_from_slice(other);
    joined.freeze()
}

/// Sends the batches of one node until `closing`. Each has a task of its own, as none waits for another.
pub async fn send_all(node: Arc<Node>, tasks: TaskTracker, closing: CancellationToken) {
    let alarm = Alarm::new();
    loop {
        let next = tokio::select! {
            biased; // Serve what waits before noticing the end.
            next = node.reads.next_batch_at() => next,
            () = closing.cancelled() => return,
        };
        alarm.sleep(next.saturating_duration_since(Instant::now())).await;
        let batch = node.reads.take();
        if !batch.is_empty() {
            let node = Arc::clone(&node);
            tasks.spawn(async move { node.send_batch(batch).await });
        }
    }
}
