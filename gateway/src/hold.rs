//! `POST /holds`: reserves money for a charge to come.

pub mod capture;
mod step;
pub mod void;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;
use picopay_shared::hold::{EXPIRES_IN_S, EXPIRES_IN_S_USUALLY};
use utoipa::ToSchema;

use crate::currency_schema::{AmountSchema, CurrencySchema};
use crate::fields::{self, Fields};
use crate::guarded::Guarded;
use crate::hold_body::HoldAnswerSchema;
use crate::openapi::parts::{HoldProblems, WriteHeaders};
use crate::payment::{PAYMENT_FIELDS, payment_of};
use crate::problem::Problem;
use crate::wish::Wish;
use crate::write_answer::Answered;
use crate::write_request;

// A schema for the documentation; `read_hold` reads it.
/// What to reserve, and for how long.
#[derive(Debug, ToSchema)]
#[schema(as = NewHold)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct NewHoldBody {
    /// The user whose money is reserved.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    user_id: i64,
    amount: AmountSchema,
    currency: CurrencySchema,
    /// After so many seconds it counts for nothing, by the clock of the user's shard. Left out: seven days.
    #[schema(nullable = false, minimum = 60, maximum = 2_592_000, example = 604_800)]
    expires_in: Option<u32>,
    /// The client's own reference, without U+0000. The capture has it too.
    #[schema(nullable = false, max_length = 255, pattern = "^[^\\u0000]*$", example = "room 7")]
    reference: Option<String>,
    /// The client's own JSON object, at most 4 KiB without white space, nested at most 32 deep. The capture has it too.
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<String>,
}

pub const HOLD: Wish = Wish { word: "hold", scopes: &[Scope::Charge], read: read_hold };

/// Reserve money
///
/// Sets the amount aside until it is captured, voided or expired. A user's `available` money is the balance less what open
/// holds reserve; a charge or another hold needs that much.
#[utoipa::path(
    post, path = "/holds", tag = "holds",
    params(WriteHeaders),
    request_body(content = NewHoldBody),
    responses(
        (status = 200, description = "Reserved, now or before. A replay shows the hold as it was then.", body = HoldAnswerSchema),
        HoldProblems,
    ),
)]
pub async fn post_hold(State(guarded): State<Guarded>, request: Request<Body>) -> Result<Answered, Problem> {
    write_request::run(&guarded, request, HOLD.read).await
}

fn read_hold(body: &[u8]) -> Result<Operation, Problem> {
    let known: Vec<&str> = PAYMENT_FIELDS.into_iter().chain(["expires_in"]).collect();
    let mut fields = Fields::read(body, &known)?;
    let payment = payment_of(&mut fields, "user_id", fields::currency);
    let expires_in_s = fields.optional("expires_in", expires_in_s).unwrap_or(EXPIRES_IN_S_USUALLY);
    fields.finish(payment.map(|payment| Operation::Hold { payment, expires_in_s }))
}

/// A JSON integer: not a string, and neither `60.0` nor `6e1`.
fn expires_in_s(raw: &str) -> Result<u32, String> {
    let (first, last) = (EXPIRES_IN_S.start(), EXPIRES_IN_S.end());
    let seconds = raw.parse().ok().filter(|seconds| EXPIRES_IN_S.contains(seconds));
    seconds.ok_or_else(|| format!("must be an integer from {first} to {last}, in seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Operation, Problem> {
        read_hold(format!(r#"{{"user_id":7,"amount":"5","currency":"USD"{rest}}}"#).as_bytes())
    }

    #[test]
    fn a_hold_lasts_from_a_minute_to_thirty_days_and_seven_days_unless_asked() {
        for (rest, expected) in [
            ("", 604_800),
            (r#","expires_in":60"#, 60),
            (r#","expires_in":2592000,"reference":"x","metadata":{}"#, 2_592_000),
        ] {
            let Operation::Hold { payment, expires_in_s } = read(rest).unwrap() else { panic!("{rest}") };
            assert_eq!((payment.user_id.get(), expires_in_s), (7, expected));
        }
        for wrong in ["59", "2592001", "\"60\"", "60.0", "6e1", "-60", "null", "true", "{}", "99999999999"] {
            let problem = read(&format!(r#","expires_in":{wrong}"#)).unwrap_err();
            let text = String::from_utf8(problem.body("r", "http://x")).unwrap();
            assert!(text.contains(r#""pointer":"/expires_in""#), "{wrong}: {text}");
        }
        assert!(read(r#","note":1"#).is_err());
    }
}
