//! What ends a hold: the part that capture and void share, alone and in a batch.

use picopay_shared::command::Operation;
use picopay_shared::id::TransactionId;

use crate::fields::{self, Fields, NO_UUID, hyphenated_uuid};
use crate::parameters::{Parameters, PathParameters};
use crate::problem::Problem;

#[derive(Debug)]
pub struct Step {
    /// The fields of its body.
    pub fields: &'static [&'static str],
    /// The same in a batch, where the hold is among them.
    pub fields_in_batch: &'static [&'static str],
    pub read: fn(TransactionId, &mut Fields) -> Operation,
}

impl Step {
    /// Reads a step whose hold is in the path. No body is as good as an empty object.
    ///
    /// # Errors
    /// Everything that is wrong with the body; what is wrong with the path goes to `parameters`.
    pub fn read_at(
        &self,
        path: &PathParameters,
        parameters: &mut Parameters,
        body: &[u8],
    ) -> Result<Operation, Problem> {
        let hold_id = parameters
            .in_path("id", path.get("id"), |text| hyphenated_uuid(text).ok_or_else(|| NO_UUID.to_owned()));
        let body = if body.is_empty() { b"{}" } else { body };
        let mut fields = Fields::read(body, self.fields)?;
        let hold_id = TransactionId::from_uuid(hold_id.unwrap_or_default());
        let operation = (self.read)(hold_id, &mut fields);
        fields.finish(Some(operation)).and_then(|operation| of_a_hold(hold_id, operation))
    }

    /// Reads a step in a batch.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read_in_batch(&self, body: &[u8]) -> Result<Operation, Problem> {
        let mut fields = Fields::read(body, self.fields_in_batch)?;
        let known = fields.required("hold_id", fields::uuid);
        let hold_id = TransactionId::from_uuid(known.unwrap_or_default());
        let operation = (self.read)(hold_id, &mut fields);
        fields.finish(known.map(|_| operation)).and_then(|operation| of_a_hold(hold_id, operation))
    }
}

/// An id that no hold can have is asked of nobody.
fn of_a_hold(hold_id: TransactionId, operation: Operation) -> Result<Operation, Problem> {
    if hold_id.is_ours() { Ok(operation) } else { Err(Problem::hold_not_found()) }
}
