//! Reading one HTTP/1.1 answer out of whatever has arrived so far (RFC 9112).

use std::ops::Range;

/// A body larger than this is no answer of a gateway.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// A head larger than this neither.
const HEAD_MAX: usize = 64 * 1024;

/// The head of an answer that is there completely, and where its body stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// For example 200.
    pub status: u16,
    /// Where the body is, in the bytes that were read.
    pub body: Range<usize>,
    /// Whether it said `Idempotent-Replayed: true`.
    pub is_replayed: bool,
    /// Where the value of `PicoPay-Session` is, likewise.
    pub session: Option<Range<usize>>,
    /// Whether the connection ends with it.
    pub closes: bool,
}

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The beginning of an answer.
    Partial,
    /// An answer, and nothing but.
    Complete(Head),
}

/// Why the bytes are no answer that this client understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first line is not HTTP/1's.
    #[error("the answer does not start with an HTTP/1 status line")]
    StatusLine,
    /// A header line without a colon, or not ended by CR LF.
    #[error("the answer has a broken header line")]
    Header,
    /// The length is not a number, given twice differently, or too large.
    #[error("the answer's Content-Length is unusable")]
    Length,
    /// No length: it would end with the connection.
    #[error("the answer has no Content-Length; this client needs one")]
    NoLength,
    /// Chunks or the like.
    #[error("the answer has a Transfer-Encoding; this client reads only bodies with a Content-Length")]
    TransferEncoding,
    /// More than was announced.
    #[error("more bytes arrived than the answer announced")]
    TooLong,
}

/// Reads the answer at the start of `bytes`.
///
/// # Errors
/// [`Malformed`] as soon as it is certain, however little has arrived.
pub fn read(bytes: &[u8]) -> Result<Read, Malformed> {
    let Some((line, mut at)) = next_line(bytes, 0)? else {
        return if is_status_start(bytes) { Ok(Read::Partial) } else { Err(Malformed::StatusLine) };
    };
    let (status, mut closes) = read_status(line)?;
    let (mut length, mut is_replayed, mut session) = (None, false, None);
    loop {
        let Some((line, next)) = next_line(bytes, at)? else { return Ok(Read::Partial) };
        let began = std::mem::replace(&mut at, next);
        if line.is_empty() {
            break;
        }
        // A header's name ends at the first colon; which ones matter shows by their length.
        let colon = memchr::memchr(b':', line).ok_or(Malformed::Header)?;
        let name = &line[..colon];
        match colon {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                closes = line[colon + 1..].trim_ascii().eq_ignore_ascii_case(b"close");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let read = read_length(line[colon + 1..].trim_ascii())?;
                if length.is_some_and(|earlier| earlier != read) {
                    return Err(Malformed::Length);
                }
                length = Some(read);
            }
            15 if name.eq_ignore_ascii_case(b"picopay-session") => {
                let value = &line[colon + 1..];
                let blanks = value.len() - value.trim_ascii_start().len();
                session = Some(began + colon + 1 + blanks..began + line.trim_ascii_end().len());
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return Err(Malformed::TransferEncoding),
            19 if name.eq_ignore_ascii_case(b"idempotent-replayed") => {
                is_replayed = line[colon + 1..].trim_ascii() == b"true";
            }
            _ => {}
        }
    }
    let length = match length {
        Some(length) => length,
        None if status == 204 => 0,
        None => return Err(Malformed::NoLength),
    };
    let body = at..at + length;
    match bytes.len() {
        there if there < body.end => Ok(Read::Partial),
        there if there == body.end => Ok(Read::Complete(Head { status, body, is_replayed, session, closes })),
        _ => Err(Malformed::TooLong),
    }
}

/// The line from `at`, without its CR LF, and where the next starts; nothing while it has no end yet.
fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let rest = &bytes[at..];
    match memchr::memchr(b'\n', rest) {
        Some(0) => Err(Malformed::Header),
        Some(end) if rest[end - 1] == b'\r' => Ok(Some((&rest[..end - 1], at + end + 1))),
        Some(_) => Err(Malformed::Header),
        None if bytes.len() > HEAD_MAX => Err(Malformed::Header),
        None => Ok(None),
    }
}

fn is_status_start(bytes: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let shared = bytes.len().min(start.len());
    bytes[..shared] == start[..shared]
}

/// The status, and whether this version closes the connection unless told otherwise.
fn read_status(line: &[u8]) -> Result<(u16, bool), Malformed> {
    let is_right = line.len() >= 12
        && is_status_start(line)
        && line[8] == b' '
        && line[9..12].iter().all(u8::is_ascii_digit)
        && line.get(12).is_none_or(|byte| *byte == b' ');
    if !is_right {
        return Err(Malformed::StatusLine);
    }
    let status = line[9..12].iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    // 1xx would be followed by another head; nobody asked for one.
    if status < 200 {
        return Err(Malformed::StatusLine);
    }
    Ok((status, line[7] == b'0'))
}

fn read_length(text: &[u8]) -> Result<usize, Malformed> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Length);
    }
    let length = text.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    if length > BODY_MAX { Err(Malformed::Length) } else { Ok(length) }
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
            ("HTTP/1.1 200 OK\ncontent-length: 1\n\n1", Malformed::Header),
            ("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", Malformed::Header),
            ("HTTP/2 200\r\n\r\n", Malformed::StatusLine),
            ("SSH-2.0-OpenSSH", Malformed::StatusLine),
            ("HTTP/1.1 20x OK\r\n", Malformed::StatusLine),
            ("HTTP/1.1 100 Continue\r\n", Malformed::StatusLine),
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
