//! Whether an answer is what the contract promises of it.

use std::borrow::Cow;

use picopay_shared::slot::{Slot, UserId};

use crate::traffic::{Broken, Kind, Promise, Verdict, problem_code};
use crate::write::Write;

/// A write with the first answer to it.
#[derive(Debug)]
pub struct Answered {
    pub write: Write,
    pub status: u16,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub struct Judgement {
    result: Result<(), Cow<'static, str>>,
    broken: Option<Broken>,
}

impl Judgement {
    pub fn fine() -> Self {
        Self { result: Ok(()), broken: None }
    }

    pub fn error(code: Cow<'static, str>) -> Self {
        Self { result: Err(code), broken: None }
    }

    pub fn broken(promise: Promise, detail: String) -> Self {
        Self { result: Err(Cow::Borrowed(promise.code())), broken: Some(Broken { promise, detail }) }
    }

    pub fn of(self, kind: Kind, slot: Slot) -> Verdict {
        let Self { result, broken } = self;
        Verdict { kind, slot, result, broken, pause: None, rest: Vec::new() }
    }
}

/// Whether an error is a decision that the ledger records and replays (contract, "Errors").
pub fn is_recorded(code: &str) -> bool {
    matches!(
        code,
        "insufficient-balance"
            | "refund-exceeds-charge"
            | "not-refundable"
            | "capture-exceeds-hold"
            | "hold-not-open"
            | "too-many-holds"
    )
}

pub fn judge_repeat(first: &Answered, status: u16, is_replayed: bool, body: &[u8]) -> Judgement {
    // Nothing was decided: the key may be tried again, and the first answer still stands.
    if status >= 500 || status == 429 {
        return Judgement::error(problem_code(status, body));
    }
    let difference = if status != first.status {
        "the status differs"
    } else if body != first.body {
        "the body differs"
    } else if !is_replayed {
        "Idempotent-Replayed: true is missing"
    } else {
        return Judgement::fine();
    };
    let detail = format!(
        "{difference}: first {}; then {status} {}",
        show(&first.write, first.status, &first.body),
        String::from_utf8_lossy(body),
    );
    Judgement::broken(Promise::EqualReplays, detail)
}

pub fn judge_read(user: UserId, status: u16, body: &[u8]) -> Judgement {
    if status != 200 {
        return Judgement::error(problem_code(status, body));
    }
    // To read a whole page of history would cost more than to ask for it: the first user that it names is looked at.
    let field = b"\"user_id\":";
    if let Some(at) = memchr::memmem::find(body, field) {
        let rest = body[at + field.len()..].trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let named = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse::<i64>().ok());
        if named != Some(user.get()) {
            let detail = format!("user {user} was asked for: {status} {}", String::from_utf8_lossy(body));
            return Judgement::broken(Promise::RightAnswers, detail);
        }
    }
    Judgement::fine()
}

pub fn show(write: &Write, status: u16, body: &[u8]) -> String {
    format!(
        "{} of user {} under key {}: {status} {}",
        write.wish.as_str(),
        write.user,
        String::from_utf8_lossy(&write.key),
        String::from_utf8_lossy(body),
    )
}
