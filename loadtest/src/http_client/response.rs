//! Reading one HTTP/1.1 answer out of whatever has arrived so far (RFC 9112).

use std::cmp::Ordering;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A gateway's answers are far below these three.
const BODY_MAX: usize = 16 * 1024 * 1024;
const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 48;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub body: Range<usize>,
    pub is_replayed: bool,
    pub session: Option<Range<usize>>,
    pub closes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Partial,
    Complete(Head),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the answer's head is no HTTP/1 response: {0}")]
    Head(#[from] httparse::Error),
    /// Another head would follow it, and no request here asks for one.
    #[error("the answer is an interim one, of status {0}")]
    Interim(u16),
    #[error("the answer's Content-Length is unusable")]
    Length,
    /// Such an answer would end with the connection.
    #[error("the answer has no Content-Length; this client needs one")]
    NoLength,
    #[error("the answer has a Transfer-Encoding; this client reads only bodies with a Content-Length")]
    TransferEncoding,
    #[error("more bytes arrived than the answer announced")]
    TooLong,
}

pub fn read(bytes: &[u8]) -> Result<Read, Malformed> {
    // Not initialised: clearing the fields for every answer would cost as much as parsing them.
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let body_start = match parser.parse_response_with_uninit_headers(&mut response, bytes, &mut fields)? {
        httparse::Status::Complete(body_start) => body_start,
        httparse::Status::Partial if bytes.len() > HEAD_MAX => return Err(Malformed::TooLong),
        httparse::Status::Partial => return Ok(Read::Partial),
    };
    let status = response.code.unwrap_or_default();
    if status < 200 {
        return Err(Malformed::Interim(status));
    }
    let mut closes = response.version == Some(0);
    let (mut length, mut is_replayed, mut session) = (None, false, None);
    for httparse::Header { name, value } in &*response.headers {
        // The length tells most names apart without reading them.
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => closes = value.eq_ignore_ascii_case(b"close"),
            14 if name.eq_ignore_ascii_case("content-length") => {
                let read = read_length(value).ok_or(Malformed::Length)?;
                if length.replace(read).is_some_and(|earlier| earlier != read) {
                    return Err(Malformed::Length);
                }
            }
            15 if name.eq_ignore_ascii_case("picopay-session") => {
                let start = value.as_ptr().addr() - bytes.as_ptr().addr();
                session = Some(start..start + value.len());
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => return Err(Malformed::TransferEncoding),
            19 if name.eq_ignore_ascii_case("idempotent-replayed") => is_replayed = *value == b"true",
            _ => {}
        }
    }
    let length = length.or((status == 204).then_some(0)).ok_or(Malformed::NoLength)?;
    let body = body_start..body_start + length;
    match bytes.len().cmp(&body.end) {
        Ordering::Less => Ok(Read::Partial),
        Ordering::Equal => Ok(Read::Complete(Head { status, body, is_replayed, session, closes })),
        Ordering::Greater => Err(Malformed::TooLong),
    }
}

fn read_length(text: &[u8]) -> Option<usize> {
    // `parse` would take a sign.
    let text = str::from_utf8(text).ok().filter(|text| !text.starts_with('+'))?;
    text.parse().ok().filter(|length| *length <= BODY_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nidempotent-replayed: true\r\n\
        X-Request-Id: abc\r\nContent-Length: 11\r\n\r\n{\"a\": 1.00}";

    #[test]
    fn an_answer_is_read_however_it_was_split() {
        for split in 0..ANSWER.len() {
            assert_eq!(read(&ANSWER[..split]), Ok(Read::Partial), "{split}");
        }
        let Ok(Read::Complete(head)) = read(ANSWER) else { panic!("it is complete") };
        assert_eq!((head.status, head.is_replayed, head.closes), (200, true, false));
        assert_eq!(&ANSWER[head.body], b"{\"a\": 1.00}");
    }

    #[test]
    fn what_this_client_does_not_understand_it_refuses_clearly() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::TransferEncoding),
            ("HTTP/1.1 200 OK\r\n\r\n", Malformed::NoLength),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", Malformed::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12", Malformed::Length),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n12", Malformed::TooLong),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n1", Malformed::Length),
            ("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", Malformed::Head(httparse::Error::HeaderName)),
            ("HTTP/2 200\r\n\r\n", Malformed::Head(httparse::Error::Version)),
            ("SSH-2.0-OpenSSH", Malformed::Head(httparse::Error::Version)),
            ("HTTP/1.1 20x OK\r\n", Malformed::Head(httparse::Error::Status)),
            ("HTTP/1.1 100 Continue\r\n\r\n", Malformed::Interim(100)),
        ] {
            assert_eq!(read(text.as_bytes()), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_connection_that_ends_with_the_answer_is_noticed() {
        for (text, expected) in [
            ("HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\n", true),
            ("HTTP/1.0 204 No Content\r\n\r\n", true),
            ("HTTP/1.0 204 No Content\r\nconnection: keep-alive\r\n\r\n", false),
            ("HTTP/1.1 204\r\n\r\n", false),
        ] {
            let Ok(Read::Complete(head)) = read(text.as_bytes()) else { panic!("{text:?} is complete") };
            assert_eq!(head.closes, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..90) {
            let _ = read(&bytes);
            let mut mixed = ANSWER[..cut].to_vec();
            mixed.extend_from_slice(&bytes);
            let _ = read(&mixed);
        }
    }
}
