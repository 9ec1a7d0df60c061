//! The session token in `PicoPay-Session`: a short text that clients keep and send back.
//!
//! It is no secret: a forged one reads the same data from another database.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use picopay_shared::session::{LogPosition, SessionToken};

use crate::header_names::PICOPAY_SESSION;
use crate::parameters::Parameters;

/// The header, as it is written in the documentation.
pub const NAME: &str = "PicoPay-Session";

/// Changes with the layout below, so that a token of an older gateway is refused and not misread.
const VERSION: u8 = 1;
const LENGTH: usize = 1 + 8 + 4 + 8;
const TEXT_LENGTH: usize = LENGTH / 3 * 4;

const NOT_A_TOKEN: &str =
    "must be one token, word for word as the answer to a write gave it; leave it out to read without one";

pub fn to_header(token: SessionToken) -> HeaderValue {
    HeaderValue::from_bytes(&encode(token)).expect("letters, digits, - and _")
}

/// The token of a read, if it has one. Errors go to `parameters`.
pub fn read(headers: &HeaderMap, parameters: &mut Parameters) -> Option<SessionToken> {
    let mut values = headers.get_all(&PICOPAY_SESSION).iter();
    let first = values.next()?;
    let token = first.to_str().ok().and_then(decode).filter(|_| values.next().is_none());
    if token.is_none() {
        parameters.add_header(NAME, NOT_A_TOKEN);
    }
    token
}

/// On the stack: each answer to a write makes one.
fn encode(SessionToken { shard_hash, position }: SessionToken) -> [u8; TEXT_LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&shard_hash.to_be_bytes());
    bytes[9..13].copy_from_slice(&position.timeline.to_be_bytes());
    bytes[13..].copy_from_slice(&position.lsn.to_be_bytes());
    let mut text = [0; TEXT_LENGTH];
    URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("four characters for each three bytes");
    text
}

fn decode(text: &str) -> Option<SessionToken> {
    let bytes: [u8; LENGTH] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let (shard_hash, rest) = bytes[1..].split_first_chunk()?;
    let (timeline, rest) = rest.split_first_chunk()?;
    let (lsn, _) = rest.split_first_chunk()?;
    let position = LogPosition { timeline: u32::from_be_bytes(*timeline), lsn: u64::from_be_bytes(*lsn) };
    // A well-formed token of another shard, timeline or log is accepted and has no effect, so the
    // documentation can name a form.
    (bytes[0] == VERSION).then_some(SessionToken { shard_hash: u64::from_be_bytes(*shard_hash), position })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> SessionToken {
        SessionToken::new("shard-1", LogPosition { timeline: 3, lsn: 0x1_6B37_4D48 })
    }

    fn read_all(values: &[&str]) -> Result<Option<SessionToken>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&PICOPAY_SESSION, HeaderValue::from_str(value).unwrap());
        }
        let mut parameters = Parameters::read(None, &[]);
        let token = read(&headers, &mut parameters);
        let told = |problem: crate::problem::Problem| String::from_utf8(problem.body("r", "")).unwrap();
        parameters.finish(Some(token)).map_err(told)
    }

    #[test]
    fn a_token_comes_back_as_it_was_given() {
        let header = to_header(token());
        assert_eq!(read_all(&[header.to_str().unwrap()]), Ok(Some(token())));
        assert_eq!(read_all(&[]), Ok(None));
    }

    #[test]
    fn a_token_is_short_and_never_changes_between_versions() {
        // Clients keep tokens while gateways are replaced.
        assert_eq!(encode(token()), *b"ASgnVfAHPGqTAAAAAwAAAAFrN01I");
    }

    #[test]
    fn what_was_never_a_token_is_refused_and_the_header_is_named() {
        let good = to_header(token()).to_str().unwrap().to_owned();
        for values in [
            vec![""],
            vec!["x"],
            vec![&good[1..]],
            vec![&format!("{good}A")],
            vec![&format!("{good}=")],
            vec![&format!(" {good}")],
            vec![&format!("\"{good}\"")],
            vec![&format!("B{}", &good[1..])],
            vec![&format!("{good},{good}")],
            vec![&good, &good],
        ] {
            let told = read_all(&values).unwrap_err();
            assert!(told.contains(r#""header":"PicoPay-Session""#), "{values:?} gave {told}");
        }
    }
}
