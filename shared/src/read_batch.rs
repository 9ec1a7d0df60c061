//! Several reads in one request, as they cross the wire: each as it would alone, behind a head of eight bytes.
//!
//! A node answers each as soon as it can, in any order. So a read that has to wait holds up no other one. The
//! body of an answer may arrive in pieces.

use std::ops::Range;

use crate::query::ReadRequest;

/// The path where a node takes a batch of reads. It answers with one [`Frame`] for each, numbered by their
/// places in the batch. A node names it by [`READS_TOGETHER`](crate::node_status::READS_TOGETHER).
pub const READ_BATCH_PATH: &str = "/internal/v3/reads";

/// Most reads in one batch. More make a page hardly cheaper, and the first one waits for the last.
pub const READ_BATCH_MAX: usize = 64;

const HEAD: usize = 8;

/// A number and some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Of a request: the milliseconds that its gateway still waits. Of an answer: the request's place.
    pub number: u32,
    /// Where the bytes are in what was read.
    pub body: Range<usize>,
}

impl Frame {
    /// Appends one to `bytes`.
    ///
    /// # Panics
    /// When the body has four gigabytes.
    pub fn write(bytes: &mut Vec<u8>, number: u32, body: &[u8]) {
        let length = u32::try_from(body.len()).expect("a read is much smaller");
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
    }

    /// The first one of `bytes`; `None` while it is not complete. The next one begins behind its body.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let body = HEAD..HEAD.checked_add(length)?;
        (length <= rest.len()).then_some(Self { number: u32::from_be_bytes(*number), body })
    }
}

/// The reads of a batch, each with the milliseconds that its gateway still waits.
///
/// # Errors
/// When the bytes are no batch.
pub fn reads_from_wire(mut bytes: &[u8]) -> Result<Vec<(u32, ReadRequest)>, postcard::Error> {
    let mut reads = Vec::new();
    while !bytes.is_empty() {
        let frame = Frame::read(bytes).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        reads.push((frame.number, ReadRequest::from_wire(&bytes[frame.body.clone()])?));
        bytes = &bytes[frame.body.end..];
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Consistency, Query};
    use crate::slot::UserId;

    #[test]
    fn reads_arrive_as_they_were_sent_and_a_part_of_them_is_no_batch() {
        let request = |user| ReadRequest {
            query: Query::Balance {
                user_id: UserId::try_from(user).unwrap(),
                currency: None,
                consistency: Consistency::Strong,
            },
            session: None,
            origin: None,
        };
        let sent = vec![(1_980, request(7)), (20, request(8))];
        let mut wire = Vec::new();
        for (left_ms, request) in &sent {
            Frame::write(&mut wire, *left_ms, &request.to_wire());
        }
        assert_eq!(reads_from_wire(&wire).unwrap(), sent);
        let first = Frame::read(&wire).unwrap().body.end;
        for length in 0..wire.len() {
            let is_whole = length == 0 || length == first;
            assert_eq!(reads_from_wire(&wire[..length]).is_ok(), is_whole, "{length}");
            assert_eq!(Frame::read(&wire[..length]).is_some(), length >= first, "{length}");
        }
    }
}
