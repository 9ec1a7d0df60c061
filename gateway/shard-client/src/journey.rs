//! What a request met on its way to its shard and back, for the gateway's access line.
//!
//! It belongs to the task that serves the request, like a span. So no function between the front door and a pipe has to
//! pass it on, and without an access log nothing is noted at all.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use picopay_shared::slot::Slot;
use uuid::Uuid;

tokio::task_local! {
    static JOURNEY: Arc<Mutex<Journey>>;
}

/// What is known of one request so far. Nothing in it is of the request's body but the ids.
#[derive(Debug, Default)]
pub struct Journey {
    /// The name of the API key.
    pub key_name: Option<Arc<str>>,
    pub idempotency_key: Option<Uuid>,
    pub transaction: Option<Uuid>,
    pub slot: Option<Slot>,
    /// The shard that was asked last.
    pub shard: Option<String>,
    pub retries: u32,
    /// How long its command waited for its batch, the last time.
    pub queue: Option<Duration>,
    /// Commands in that batch.
    pub batch_size: Option<usize>,
    /// How long the shard's COMMIT took, with its wait for the standby.
    pub commit: Option<Duration>,
}

/// When and with how many others a command was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub at: Instant,
    pub batch_size: usize,
    pub commit: Option<Duration>,
}

/// Runs what serves a request, and keeps what is noted meanwhile.
pub async fn record<F: Future>(journey: Arc<Mutex<Journey>>, serving: F) -> F::Output {
    JOURNEY.scope(journey, serving).await
}

/// Has what another task does for this request be noted too, if anybody wants to know.
pub fn carry<F: Future>(doing: F) -> impl Future<Output = F::Output> {
    let journey = JOURNEY.try_with(Arc::clone).ok();
    async move {
        match journey {
            Some(journey) => JOURNEY.scope(journey, doing).await,
            None => doing.await,
        }
    }
}

/// Notes something about the request of this task, if anybody wants to know.
pub fn note(take_down: impl FnOnce(&mut Journey)) {
    // Outside of a recorded request there is nothing to note it in.
    let _ =
        JOURNEY.try_with(|journey| take_down(&mut journey.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// The present moment, if somebody wants to know how long the request waits.
pub(crate) fn moment() -> Option<Instant> {
    JOURNEY.try_with(|_| Instant::now()).ok()
}

/// Notes how a command travelled that was handed in at `queued`.
pub(crate) fn note_sent(queued: Option<Instant>, sent: Option<Sent>) {
    let (Some(queued), Some(sent)) = (queued, sent) else { return };
    note(|journey| {
        journey.queue = Some(sent.at.saturating_duration_since(queued));
        journey.batch_size = Some(sent.batch_size);
        journey.commit = sent.commit;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_notes_its_own_journey_and_nobody_elses() {
        let journey = Arc::<Mutex<Journey>>::default();
        note(|journey| journey.retries = 7);
        record(Arc::clone(&journey), async {
            note(|journey| journey.retries += 1);
            assert!(moment().is_some());
            // A task of its own is another traveller, unless it is taken along.
            tokio::spawn(async { note(|journey| journey.retries += 10) }).await.unwrap();
            tokio::spawn(carry(async { note(|journey| journey.retries += 100) })).await.unwrap();
        })
        .await;
        assert!(moment().is_none());
        tokio::spawn(carry(async { note(|journey| journey.retries += 1_000) })).await.unwrap();
        assert_eq!(journey.lock().unwrap().retries, 101);
    }
}
