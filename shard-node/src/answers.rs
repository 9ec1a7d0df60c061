//! The answer to a batch of reads: each read's as soon as it is known, and none later than its gateway waits.
//!
//! Usually all are known together, and the answer is one piece. What comes later follows in the same body.

use std::convert::Infallible;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use picopay_shared::query::{Answer, Found, Source};
use picopay_shared::read_batch::{Frame, READ_BATCH_MAX};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

pub const OCTETS: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/octet-stream")];

type Told = Vec<(usize, Answer)>;

pub struct Answers {
    told: mpsc::UnboundedReceiver<Told>,
    /// Until when each read is waited for; `None` once it is answered.
    waited_for: Vec<Option<Instant>>,
}

impl Answers {
    /// For reads that are waited for until then. Whoever answers them tells the sender.
    pub fn until(ends: impl Iterator<Item = Instant>) -> (Self, mpsc::UnboundedSender<Told>) {
        let (sender, told) = mpsc::unbounded_channel();
        (Self { told, waited_for: ends.map(Some).collect() }, sender)
    }

    pub async fn into_response(mut self) -> Response {
        let Some(first) = self.next().await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        if self.next_end().is_none() {
            return (OCTETS, first).into_response();
        }
        let pieces = stream::unfold((Some(first), self), async |(first, mut answers)| {
            let piece = match first {
                Some(first) => Some(first),
                None => answers.next().await,
            };
            piece.map(|piece| (Ok::<_, Infallible>(piece), (None, answers)))
        });
        (OCTETS, Body::from_stream(pieces)).into_response()
    }

    /// `None` when all are answered, or when nobody answers the others any more, after a panic.
    async fn next(&mut self) -> Option<Bytes> {
        let mut told = Vec::new();
        while let Some(end) = self.next_end() {
            let is_told = timeout_at(end.into(), self.told.recv_many(&mut told, READ_BATCH_MAX)).await;
            if is_told == Ok(0) {
                return None;
            }
            let piece = match is_told {
                Ok(_) => self.write(told.drain(..).flatten()),
                Err(_elapsed) => {
                    let now = Instant::now();
                    let late = |(place, end): (usize, &Option<Instant>)| {
                        end.is_some_and(|end| end <= now).then(|| (place, not_in_time()))
                    };
                    let late: Told = self.waited_for.iter().enumerate().filter_map(late).collect();
                    self.write(late.into_iter())
                }
            };
            if !piece.is_empty() {
                return Some(piece.into());
            }
        }
        None
    }

    fn next_end(&self) -> Option<Instant> {
        self.waited_for.iter().flatten().min().copied()
    }

    /// Nobody waits any more for an answer that was given up.
    fn write(&mut self, answers: impl Iterator<Item = (usize, Answer)>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (place, answer) in answers {
            if self.waited_for[place].take().is_some() {
                Frame::write(&mut bytes, u32::try_from(place).expect("one of a batch"), &answer.to_wire());
            }
        }
        bytes
    }
}

pub fn not_in_time() -> Answer {
    let found = Found::Unavailable { reason: "not answered in time".to_owned() };
    Answer { found, source: Source::Primary }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn numbers(piece: Option<Bytes>) -> Vec<u32> {
        let mut rest = piece.unwrap_or_default();
        let mut numbers = Vec::new();
        while let Some(frame) = Frame::read(&rest) {
            numbers.push(frame.number);
            rest = rest.slice(frame.body.end..);
        }
        numbers
    }

    #[tokio::test(start_paused = true)]
    async fn each_read_is_answered_once_and_in_its_own_time() {
        let now = Instant::now();
        let soon = now + Duration::from_millis(20);
        let (mut answers, told) = Answers::until([now + Duration::from_secs(2), soon, soon].into_iter());
        let answer = || Answer { found: Found::UserNotFound, source: Source::Primary };
        told.send(vec![(1, answer())]).unwrap();
        assert_eq!(numbers(answers.next().await), [1]);
        // Real time passes, as the deadlines are of real time: that of the third read is over.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(numbers(answers.next().await), [2]);
        told.send(vec![(2, answer())]).unwrap();
        told.send(vec![(0, answer())]).unwrap();
        assert_eq!(numbers(answers.next().await), [0]);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn reads_that_nobody_answers_any_more_end_the_answer() {
        let later = Instant::now() + Duration::from_mins(1);
        let (mut answers, told) = Answers::until([later].into_iter());
        drop(told);
        assert!(answers.next().await.is_none());
    }
}
