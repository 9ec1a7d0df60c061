//! The answer to a batch: for each operation what its route would have answered, in one text.

use axum::http::StatusCode;
use picopay_shared::command::Transaction;
use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::hold_body::HoldAnswerSchema;
use crate::openapi::parts::ProblemSchema;
use crate::problem::Problem;
use crate::transaction_body::WriteSchema;
use crate::write_body::WriteBody;

/// How one operation ended.
#[derive(Debug)]
pub struct OperationEnd {
    /// `None` when the client's was none.
    pub key: Option<Uuid>,
    pub end: Result<Booked, Problem>,
}

#[derive(Debug)]
pub struct Booked {
    pub transaction: Box<Transaction>,
    pub is_replayed: bool,
}

impl OperationEnd {
    /// Whether it was booked before, or what the problem is.
    pub fn is_replayed(&self) -> Result<bool, &Problem> {
        self.end.as_ref().map(|booked| booked.is_replayed)
    }
}

/// The whole answer. Problems name the request's id, and pages of this gateway.
#[derive(Debug)]
pub struct Results<'a> {
    pub ends: &'a [OperationEnd],
    pub request_id: &'a str,
    pub public_url: &'a str,
}

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut whole = serializer.serialize_struct("Results", 1)?;
        whole.serialize_field("results", &List(self))?;
        whole.end()
    }
}

struct List<'a>(&'a Results<'a>);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(Results { ends, request_id, public_url }) = self;
        let mut list = serializer.serialize_seq(Some(ends.len()))?;
        for end in *ends {
            list.serialize_element(&One { end, request_id, public_url })?;
        }
        list.end()
    }
}

struct One<'a> {
    end: &'a OperationEnd,
    request_id: &'a str,
    public_url: &'a str,
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let OperationEnd { key, end } = self.end;
        let (status, is_replayed) = match end {
            Ok(booked) => (StatusCode::OK, booked.is_replayed),
            Err(problem) => (problem.code().status(), problem.is_replayed()),
        };
        let mut one = serializer.serialize_struct("Result", 4)?;
        one.serialize_field("status", &status.as_u16())?;
        one.serialize_field("replayed", &is_replayed)?;
        one.serialize_field("idempotency_key", key)?;
        match end {
            Ok(booked) => one.serialize_field("body", &WriteBody(&booked.transaction))?,
            Err(problem) => {
                one.serialize_field("body", &problem.as_written(self.request_id, self.public_url))?;
            }
        }
        one.end()
    }
}

// The schema of `Results`.
/// What became of each operation, in their order.
#[derive(Debug, ToSchema)]
#[schema(as = BatchAnswer)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ResultsSchema {
    results: Vec<ResultSchema>,
}

/// What became of one operation.
#[derive(Debug, ToSchema)]
#[schema(as = BatchResult)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ResultSchema {
    /// The HTTP status that the operation would have had alone.
    #[schema(example = 200)]
    status: u16,
    /// Whether it is the answer to an earlier request with this key.
    replayed: bool,
    /// The key in use, sent by the client or made by the gateway; null when the client's was not valid.
    #[schema(
        format = "uuid",
        nullable = true,
        required = true,
        example = "550e8400-e29b-41d4-a716-446655440000"
    )]
    idempotency_key: Option<String>,
    body: ResultBodySchema,
}

/// The body that the operation would have had alone.
#[derive(Debug, ToSchema)]
#[schema(as = BatchResultBody)]
#[serde(untagged)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub enum ResultBodySchema {
    Booked(WriteSchema),
    Held(HoldAnswerSchema),
    Problem(ProblemSchema),
}
