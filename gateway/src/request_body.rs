//! The body of a write: read whole, within a limit of size and of time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tokio::time::{Instant, timeout_at};

use crate::problem::{FieldError, Problem};

/// Largest body of one operation, in bytes (contract, "Errors"). Metadata has at most 4 KiB and the other fields
/// a few hundred bytes; the rest is for white space.
pub const OPERATION_MAX: usize = 64 * 1024;
/// Largest body of a batch, in bytes (contract, "Batch"): 2 KiB for each of 500 operations.
pub const BATCH_MAX: usize = 1024 * 1024;

/// # Errors
/// 413 when the body is announced as larger than `size_max`.
pub fn check_length(headers: &HeaderMap, size_max: usize) -> Result<(), Problem> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_too_large = length.is_some_and(|length| usize::try_from(length).unwrap_or(usize::MAX) > size_max);
    if is_too_large { Err(Problem::too_large(size_max)) } else { Ok(()) }
}

/// Reads the whole body. It almost always comes together with the head; then no timer is needed, which would
/// make every future around this one larger.
pub async fn read_body(mut body: Body, size_max: usize, limit: Duration) -> Result<Bytes, Problem> {
    match look_at_body(&mut body).await {
        Some(Some(Ok(frame))) if body.is_end_stream() => {
            let data = frame.into_data().unwrap_or_default();
            if data.len() > size_max { Err(Problem::too_large(size_max)) } else { Ok(data) }
        }
        Some(None) => Ok(Bytes::new()),
        Some(Some(frame)) => Box::pin(read_slow_body(Some(frame), body, size_max, limit)).await,
        None => Box::pin(read_slow_body(None, body, size_max, limit)).await,
    }
}

type BodyFrame = Result<Frame<Bytes>, axum::Error>;

/// The next frame (or the end) if it came with the head; `None` when it must be waited for. hyper returns it
/// only after the first look, so there are three.
async fn look_at_body(body: &mut Body) -> Option<Option<BodyFrame>> {
    let mut looks = 0;
    poll_fn(|context| match Pin::new(&mut *body).poll_frame(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if looks < 2 => {
            looks += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn read_slow_body(
    mut begun: Option<BodyFrame>,
    mut body: Body,
    size_max: usize,
    limit: Duration,
) -> Result<Bytes, Problem> {
    let deadline = Instant::now() + limit;
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    loop {
        let next = match begun.take() {
            Some(frame) => Some(frame),
            None => match timeout_at(deadline, body.frame()).await {
                Ok(next) => next,
                Err(_elapsed) => return Err(Problem::body_too_slow()),
            },
        };
        let frame = match next {
            Some(Ok(frame)) => frame,
            None => break,
            Some(Err(_)) => {
                return Err(Problem::invalid_request(vec![FieldError::in_body("the body broke off")]));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + rest.as_ref().map_or(0, BytesMut::len);
        if length + data.len() > size_max {
            return Err(Problem::too_large(size_max));
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.get_or_insert_default().extend_from_slice(&data);
        }
    }
    Ok(match rest {
        None => first,
        Some(rest) => [first, rest.freeze()].concat().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_whole_and_never_past_its_limit() {
        let soon = Duration::from_secs(5);
        let in_pieces = |pieces: Vec<usize>| {
            let pieces = pieces.into_iter().map(|length| Ok::<_, std::io::Error>(vec![b'x'; length]));
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        for most in [OPERATION_MAX, BATCH_MAX] {
            for pieces in [vec![], vec![10], vec![1, 2, 3], vec![most], vec![most - 1, 1]] {
                let length: usize = pieces.iter().sum();
                assert_eq!(read_body(in_pieces(pieces), most, soon).await.unwrap().len(), length);
            }
            for pieces in [vec![most + 1], vec![most, 1], vec![40_000; 250]] {
                let problem = read_body(in_pieces(pieces), most, soon).await.unwrap_err();
                assert_eq!(problem.code(), crate::problem::Code::TooLarge);
            }
        }
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let problem = read_body(never, OPERATION_MAX, Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(problem.code(), crate::problem::Code::RequestTimeout);
    }
}
