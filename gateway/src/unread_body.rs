//! Bodies that no handler read to their end, because the answer was clear before.
//!
//! A client that sends head and body in two packets is still sending when it is refused. If the connection
//! ended, the client would see a broken pipe and never the answer. If the rest stayed, it would be taken for
//! the next request. So the rest is read and dropped before the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::timeout;

/// Bytes that are read and dropped to keep the connection: as much as any body may have.
const KEEP_MAX: usize = 64 * 1024;
/// Bytes that are dropped before the connection is closed. A connection that closes on unread bytes is reset,
/// and the client would never see why.
const DISCARD_MAX: usize = 32 * 1024 * 1024;
const DISCARD_FOR: Duration = Duration::from_secs(2);

/// Where a body comes back to.
#[derive(Debug)]
pub struct Returned<B>(Arc<Mutex<Option<B>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Gone,
    /// More may come: the connection must end.
    ToCome,
}

pub fn lend<B>(body: B) -> (Body, Option<Returned<B>>)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let place = Arc::default();
    let returned = Returned(Arc::clone(&place));
    (Body::new(Lent { body: Some(body), place }), Some(returned))
}

impl<B> Returned<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    pub fn is_unread(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub async fn read_away(&self, limit: Duration) -> Rest {
        let Some(mut body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Rest::Gone;
        };
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced <= KEEP_MAX {
            match timeout(limit, drop_up_to(KEEP_MAX, &mut body)).await {
                Ok(Dropped::All) => return Rest::Gone,
                Ok(Dropped::Enough) => {}
                Ok(Dropped::BrokenOff) | Err(_) => return Rest::ToCome,
            }
        }
        let _ = timeout(DISCARD_FOR, drop_up_to(DISCARD_MAX, &mut body)).await;
        Rest::ToCome
    }
}

enum Dropped {
    All,
    Enough,
    BrokenOff,
}

async fn drop_up_to<B: HttpBody<Data = Bytes> + Unpin>(most: usize, body: &mut B) -> Dropped {
    let mut dropped = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Dropped::BrokenOff };
        dropped += frame.data_ref().map_or(0, Bytes::len);
        if dropped > most {
            return Dropped::Enough;
        }
    }
    Dropped::All
}

struct Lent<B: HttpBody> {
    body: Option<B>,
    place: Arc<Mutex<Option<B>>>,
}

impl<B: HttpBody + Unpin> HttpBody for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody> Drop for Lent<B> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(pieces: Vec<usize>) -> Body {
        let pieces = pieces.into_iter().map(|length| Ok::<_, std::io::Error>(vec![b'x'; length]));
        Body::from_stream(futures_util::stream::iter(pieces))
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn what_nobody_read_is_read_away_up_to_what_a_body_may_have() {
        for (pieces, expected) in [
            (vec![10], Rest::Gone),
            (vec![40_000, 25_536], Rest::Gone),
            (vec![40_000, 25_537], Rest::ToCome),
            (vec![100_000; 10], Rest::ToCome),
        ] {
            let (lent, returned) = lend(in_pieces(pieces.clone()));
            let returned = returned.unwrap();
            drop(lent);
            assert!(returned.is_unread());
            assert_eq!(returned.read_away(SOON).await, expected, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn what_was_read_to_its_end_does_not_come_back() {
        let (lent, returned) = lend(in_pieces(vec![10, 20]));
        assert_eq!(lent.collect().await.unwrap().to_bytes().len(), 30);
        assert!(!returned.unwrap().is_unread());
        assert!(lend(Body::empty()).1.is_none(), "there is nothing to read");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_ends_its_connection() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let (lent, returned) = lend(never);
        drop(lent);
        assert_eq!(returned.unwrap().read_away(Duration::from_millis(5)).await, Rest::ToCome);
    }
}
