//! More to look at than one request may cost.

use picopay_shared::aggregate::SUMS_LOOKS_MAX;

use super::{Code, Problem};

impl Problem {
    pub fn range_too_large() -> Self {
        let detail = format!(
            "more than {SUMS_LOOKS_MAX} transactions are in the range on one shard; ask for a shorter time or fewer users"
        );
        Self::new(Code::RangeTooLarge, detail)
    }

    /// Nothing leads to a balance at a time that is far from all transactions in its currency.
    pub fn balance_too_deep() -> Self {
        Self::new(
            Code::RangeTooLarge,
            "too many transactions in other currencies are around this time; ask for another time",
        )
    }
}
