//! What a client reads when a hold cannot be taken, found or ended.

use picopay_shared::hold::{HoldStatus, OPEN_HOLDS_MAX};
use picopay_shared::money::Money;

use super::{Code, Extension, Problem};

impl Problem {
    pub fn hold_not_found() -> Self {
        Self::new(Code::HoldNotFound, "no hold has this id")
    }

    pub fn capture_exceeds_hold(remaining: Money) -> Self {
        let detail = format!("of this hold {remaining} {} can be captured", remaining.currency());
        Self::new(Code::CaptureExceedsHold, detail).with(Extension::Remaining(remaining))
    }

    pub fn hold_not_open(status: HoldStatus) -> Self {
        Self::new(Code::HoldNotOpen, "the hold has ended").with(Extension::HoldStatus(status))
    }

    pub fn too_many_holds() -> Self {
        Self::new(Code::TooManyHolds, format!("a user has at most {OPEN_HOLDS_MAX} open holds"))
    }
}
