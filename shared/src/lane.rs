//! A lane: a queue that forms batches by itself.
//!
//! A worker takes whatever is waiting, up to a limit. What arrives meanwhile is the next batch. An item may
//! stand for several commands, and has their weight. A lane has no timer, so batches grow with the load. The
//! gateway's pipe adds one: it starts a batch at most every `batch_interval`. The lanes of a shard node do
//! not wait.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, mpsc, oneshot};

/// The queue is full: the item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

/// The worker was lost with the item: it may or may not have been worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker stopped before it answered")]
pub struct WorkerLost;

/// One queued item, with the sender for its answer.
#[derive(Debug)]
pub struct Pending<T, R> {
    item: T,
    weight: usize,
    reply: oneshot::Sender<R>,
}

impl<T, R> Pending<T, R> {
    /// How many commands the item stands for.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Takes the item out, and leaves the sender for its answer.
    pub fn split(self) -> (T, Reply<R>) {
        (self.item, Reply(self.reply))
    }
}

/// The sender for one answer.
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers. The caller may be gone, which is no error.
    pub fn send(self, answer: R) {
        let _ = self.0.send(answer);
    }
}

/// The entrance of a lane. Clones lead to the same queue.
#[derive(Debug)]
pub struct Lane<T, R> {
    queue: mpsc::UnboundedSender<Pending<T, R>>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl<T, R> Clone for Lane<T, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waiting: Arc::clone(&self.waiting), waiting_max: self.waiting_max }
    }
}

impl<T, R> Lane<T, R> {
    /// A lane for items of at most `waiting_max` in weight, and its far end.
    pub fn new(waiting_max: usize) -> (Self, LaneEnd<T, R>) {
        // The weight bounds it.
        let (queue, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let end = LaneEnd {
            queue: Arc::new(Mutex::new(Queue { receiver, next: None })),
            waiting: Arc::clone(&waiting),
        };
        (Self { queue, waiting, waiting_max }, end)
    }

    /// Queues `item` and returns the future of its answer.
    ///
    /// # Errors
    /// [`QueueFull`] at once when too much waits already. An empty queue takes any one item.
    pub fn submit(
        &self,
        item: T,
        weight: usize,
    ) -> Result<impl Future<Output = Result<R, WorkerLost>> + use<T, R>, QueueFull> {
        let (reply, answer) = oneshot::channel();
        // Counted before it is sent, so that a fast worker never counts below zero.
        let before = self.waiting.fetch_add(weight, Ordering::Relaxed);
        let is_full = before > 0 && before + weight > self.waiting_max;
        if is_full || self.queue.send(Pending { item, weight, reply }).is_err() {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            return Err(QueueFull);
        }
        Ok(async move { answer.await.map_err(|_| WorkerLost) })
    }

    /// The weight of everything that waits.
    pub fn queue_length(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// The far end of a lane. Several workers may share one; each then takes its own batches.
#[derive(Debug)]
pub struct LaneEnd<T, R> {
    queue: Arc<Mutex<Queue<T, R>>>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Queue<T, R> {
    receiver: mpsc::UnboundedReceiver<Pending<T, R>>,
    /// Taken out already, but too heavy for the previous batch.
    next: Option<Pending<T, R>>,
}

impl<T, R> Clone for LaneEnd<T, R> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), waiting: Arc::clone(&self.waiting) }
    }
}

impl<T, R> LaneEnd<T, R> {
    /// Waits for the next batch: items of at most `batch_max` in weight, or one that weighs more. `None` when
    /// every entrance is dropped and the queue is empty. So a lane shuts down without losing what it
    /// accepted.
    pub async fn next_batch(&self, batch_max: usize) -> Option<Vec<Pending<T, R>>> {
        let mut queue = self.queue.lock().await;
        let first = match queue.next.take() {
            Some(first) => first,
            None => queue.receiver.recv().await?,
        };
        let mut weight = first.weight;
        let mut batch = vec![first];
        while let Ok(pending) = queue.receiver.try_recv() {
            if weight + pending.weight > batch_max {
                queue.next = Some(pending);
                break;
            }
            weight += pending.weight;
            batch.push(pending);
        }
        self.waiting.fetch_sub(weight, Ordering::Relaxed);
        Some(batch)
    }

    /// Takes everything that waits now, for a caller who knows that its turn will not come. Empty when a
    /// worker is at the queue: then that one takes it.
    pub fn take_waiting(&self) -> Vec<Pending<T, R>> {
        let Ok(mut queue) = self.queue.try_lock() else { return Vec::new() };
        let mut taken: Vec<Pending<T, R>> = queue.next.take().into_iter().collect();
        while let Ok(pending) = queue.receiver.try_recv() {
            taken.push(pending);
        }
        self.waiting.fetch_sub(taken.iter().map(|pending| pending.weight).sum(), Ordering::Relaxed);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_is_whatever_waits_up_to_the_limit() {
        let (lane, end) = Lane::<u32, u32>::new(16);
        let answers: Vec<_> = (0..5).map(|n| lane.submit(n, 1).unwrap()).collect();
        assert_eq!(lane.queue_length(), 5);
        let sizes = [end.next_batch(3).await.unwrap(), end.next_batch(3).await.unwrap()];
        assert_eq!(sizes.each_ref().map(Vec::len), [3, 2]);
        for pending in sizes.into_iter().flatten() {
            let (item, reply) = pending.split();
            reply.send(item * 10);
        }
        for (n, answer) in (0..).zip(answers) {
            assert_eq!(answer.await, Ok(n * 10));
        }
        assert_eq!(lane.queue_length(), 0);
    }

    #[tokio::test]
    async fn a_heavy_item_waits_for_a_batch_that_it_fits_into() {
        let (lane, end) = Lane::<u32, u32>::new(10);
        let _answers = [3, 9, 1].map(|weight| lane.submit(1, weight));
        assert_eq!(lane.queue_length(), 4, "9 would have been 12");
        let _answer = lane.submit(1, 6).unwrap();
        let mut counts = Vec::new();
        for batch_max in [4, 2] {
            counts.push(end.next_batch(batch_max).await.unwrap().len());
        }
        assert_eq!(counts, [2, 1], "an item that is heavier than any batch goes alone");
        assert_eq!(lane.queue_length(), 0);
        let _answer = lane.submit(1, 11).expect("an empty queue takes any one item");
    }

    #[tokio::test]
    async fn what_waits_can_be_taken_out_at_once_while_the_worker_is_busy() {
        let (lane, end) = Lane::<u32, u32>::new(10);
        let _answers = [3, 2, 1].map(|weight| lane.submit(1, weight).unwrap());
        let worked_on = end.next_batch(4).await.unwrap();
        assert_eq!((worked_on.len(), end.take_waiting().len(), lane.queue_length()), (1, 2, 0));
        let _answer = lane.submit(1, 10).expect("there is room again");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_says_so() {
        let (lane, _end) = Lane::<u32, u32>::new(2);
        let _waiting = [lane.submit(1, 1).unwrap(), lane.submit(2, 1).unwrap()];
        assert!(lane.submit(3, 1).is_err());
        assert_eq!(lane.queue_length(), 2);
    }

    #[tokio::test]
    async fn what_was_accepted_is_still_served_when_the_entrances_close() {
        let (lane, end) = Lane::<u32, u32>::new(2);
        let _answer = lane.submit(1, 1).unwrap();
        drop(lane);
        assert_eq!(end.next_batch(8).await.unwrap().len(), 1);
        assert!(end.next_batch(8).await.is_none());
    }

    #[tokio::test]
    async fn a_lost_worker_is_told_apart_from_an_answer() {
        let (lane, end) = Lane::<u32, u32>::new(2);
        let answer = lane.submit(1, 1).unwrap();
        drop(end.next_batch(1).await);
        assert_eq!(answer.await, Err(WorkerLost));
    }
}
