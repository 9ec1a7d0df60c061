//! What a worker sends and how it judges the answers, as the loop that sends sees it.

use std::borrow::Cow;
use std::time::Duration;

use picopay_shared::slot::Slot;
use serde::Serialize;

use crate::http_client::connection::Lost;
use crate::timing::Timing;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Charge,
    Replay,
    Refund,
    TopUp,
    Hold,
    Capture,
    Void,
    Transfer,
    Balance,
    History,
    CreateUser,
}

impl Kind {
    /// All, in the order in which a report lists them.
    pub const ALL: [Self; 11] = [
        Self::Charge,
        Self::Replay,
        Self::Refund,
        Self::TopUp,
        Self::Hold,
        Self::Capture,
        Self::Void,
        Self::Transfer,
        Self::Balance,
        Self::History,
        Self::CreateUser,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Replay => "replay",
            Self::Refund => "refund",
            Self::TopUp => "topup",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Transfer => "transfer",
            Self::Balance => "balance",
            Self::History => "history",
            Self::CreateUser => "create user",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    Reply {
        status: u16,
        is_replayed: bool,
        /// Its `PicoPay-Session`: what a read shows to see this write.
        session: Option<&'a [u8]>,
        body: &'a [u8],
    },
    Lost(Lost),
}

#[derive(Debug)]
pub struct Verdict {
    pub kind: Kind,
    pub slot: Slot,
    /// Fine, or how a report counts the error: the suffix of the problem type, or one of [`Lost::code`].
    pub result: Result<(), Cow<'static, str>>,
    pub broken: Option<Broken>,
    pub pause: Option<Duration>,
    /// The verdicts on the other operations of the same request.
    pub rest: Vec<Verdict>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Broken {
    pub promise: Promise,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// A repeat gets the first answer, byte for byte, and is marked as a replay.
    EqualReplays,
    /// A new key is never answered as if it were known.
    NoUnexpectedReplays,
    /// An answer is about what was asked: this user, amount, currency and key.
    RightAnswers,
}

impl Promise {
    pub fn code(self) -> &'static str {
        match self {
            Self::EqualReplays => "broken:unequal-replay",
            Self::NoUnexpectedReplays => "broken:unexpected-replay",
            Self::RightAnswers => "broken:wrong-answer",
        }
    }
}

pub trait Traffic {
    /// What is remembered of a request until its answer is there.
    type Request;

    /// How many operations each request has.
    fn operations(&self) -> u64 {
        1
    }

    /// Writes the next request to `output`. `None`: there is none, now or ever.
    fn next(&mut self, output: &mut Vec<u8>) -> Option<Self::Request>;

    fn judge(&mut self, request: Self::Request, answer: Answer<'_>, timing: Timing) -> Verdict;

    /// Called about once a second, for what is better not put off.
    fn every_second(&mut self) {}
}

pub fn problem_code(status: u16, body: &[u8]) -> Cow<'static, str> {
    #[derive(serde::Deserialize)]
    struct Problem<'a> {
        #[serde(borrow)]
        code: Cow<'a, str>,
    }
    match serde_json::from_slice::<Problem<'_>>(body) {
        Ok(problem) => Cow::Owned(problem.code.into_owned()),
        Err(_) => Cow::Owned(format!("http-{status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_by_their_problem_type() {
        assert_eq!(
            problem_code(402, br#"{"type":"x","code":"insufficient-balance","balance":1}"#),
            "insufficient-balance"
        );
        assert_eq!(problem_code(502, b"<html>"), "http-502");
    }

    #[test]
    fn a_kinds_index_is_its_place_in_the_list() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
        }
    }
}
