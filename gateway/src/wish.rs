//! A kind of operation that a client can ask for, alone or in a batch: what both ways have in common.

use picopay_gateway_config::Scope;
use picopay_shared::command::Operation;

use crate::problem::Problem;

#[derive(Debug)]
pub struct Wish {
    /// Its name in a batch.
    pub word: &'static str,
    /// A key needs one of these.
    pub scopes: &'static [Scope],
    /// Reads its body, with all that is wrong.
    pub read: fn(&[u8]) -> Result<Operation, Problem>,
}
