//! What ends a hold: the part that capture and void share, alone and in a batch.

use axum::body::Body;
use axum::http::Request;
use picopay_shared::command::Operation;
use picopay_shared::id::TransactionId;
use uuid::Uuid;

use crate::fields::{self, Fields};
use crate::guarded::Guarded;
use crate::parameters::{Parameters, PathParameters};
use crate::problem::Problem;
use crate::write_answer::Answered;
use crate::write_request;

#[derive(Debug)]
pub struct Step {
    /// The fields of its body.
    pub fields: &'static [&'static str],
    /// The same in a batch, where the hold is among them.
    pub fields_in_batch: &'static [&'static str],
    pub read: fn(TransactionId, &mut Fields) -> Operation,
}

impl Step {
    /// Runs a step whose hold is in the path.
    ///
    /// # Errors
    /// Those of [`write_request::run`].
    pub async fn run(
        &self,
        guarded: &Guarded,
        path: &PathParameters,
        request: Request<Body>,
    ) -> Result<Answered, Problem> {
        let read = |parameters: &mut Parameters, body: &[u8]| self.read_at(path, parameters, body);
        write_request::run_with_path(guarded, request, read).await
    }

    /// No body is as good as an empty object. What is wrong with the path goes to `parameters`.
    fn read_at(
        &self,
        path: &PathParameters,
        parameters: &mut Parameters,
        body: &[u8],
    ) -> Result<Operation, Problem> {
        let hold_id = parameters.id_in_path(path);
        let body = if body.is_empty() { b"{}" } else { body };
        let mut fields = Fields::read(body, self.fields)?;
        let hold_id = hold_id.unwrap_or_else(|| TransactionId::from_uuid(Uuid::nil()));
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
