//! `POST /batch`: up to 500 operations, each as if it had been sent alone.
//!
//! The batch is no operation: it has no key, and nothing of it is all or nothing. It is refused as a whole only
//! when it is none.

mod operations;
mod results;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use picopay_shard_client::{ShardError, Written};
use picopay_shared::command::{Command, WRITE_BATCH_MAX};
use picopay_shared::origin::Origin;
use picopay_shared::session::SessionToken;
use tracing::error;
use utoipa::ToSchema;
use uuid::Uuid;

use self::operations::{Asked, OPERATIONS_MAX, read_operations};
use self::results::{Booked, OperationEnd, Results, ResultsSchema};
use crate::auth::Caller;
use crate::charge::{self, CHARGE};
use crate::content_headers;
use crate::guarded::Guarded;
use crate::header_names::PICOPAY_SESSION;
use crate::hold::NewHoldBody;
use crate::hold::capture::CaptureInBatchBody;
use crate::hold::void::VoidInBatchBody;
use crate::idempotency_key::read_key;
use crate::json_answer::json_of_about;
use crate::metrics::{ChargeCount, ChargeMetrics};
use crate::openapi::parts::{BatchProblems, WriteHeaders};
use crate::parameters::Parameters;
use crate::payment::{ChargeBody, TopUpBody};
use crate::problem::{Code, Problem};
use crate::refund::RefundBody;
use crate::request_body::{BATCH_MAX, check_length, read_body};
use crate::request_id::RequestId;
use crate::request_origin;
use crate::session;
use crate::state::GatewayState;
use crate::write_answer::{Favour, favour_or_problem};
use crate::write_request::command;

// One batch on the wire takes all operations of a lane.
const _: () = assert!(OPERATIONS_MAX <= WRITE_BATCH_MAX);

// The body is a schema for the documentation; `operations.rs` reads it.
/// Operations, each as if it were sent alone.
#[derive(Debug, ToSchema)]
#[schema(as = Batch)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct BatchBody {
    #[schema(min_items = 1, max_items = 500)]
    operations: Vec<OperationSchema>,
}

/// One operation, with a key of its own.
#[derive(Debug, ToSchema)]
#[schema(as = BatchOperation)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub enum OperationSchema {
    /// The same as by `POST /topup`.
    TopUp {
        /// A UUID that stands for this operation. Without it the gateway makes one and returns it.
        #[schema(nullable = false, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
        idempotency_key: Option<String>,
        body: TopUpBody,
    },
    /// The same as by `POST /charge`.
    Charge {
        /// A UUID that stands for this operation. Without it the gateway makes one and returns it.
        #[schema(nullable = false, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
        idempotency_key: Option<String>,
        body: ChargeBody,
    },
    /// The same as by `POST /refund`.
    Refund {
        /// A UUID that stands for this operation. Without it the gateway makes one and returns it.
        #[schema(nullable = false, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
        idempotency_key: Option<String>,
        body: RefundBody,
    },
    /// The same as by `POST /holds`.
    Hold {
        /// A UUID that stands for this operation. Without it the gateway makes one and returns it.
        #[schema(nullable = false, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
        idempotency_key: Option<String>,
        body: NewHoldBody,
    },
    /// The same as by `POST /holds/{id}/capture`.
    Capture {
        /// A UUID that stands for this operation. Without it the gateway makes one and returns it.
        #[schema(nullable = false, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
        idempotency_key: Option<String>,
        body: CaptureInBatchBody,
    },
    /// The same as by `POST /holds/{id}/void`.
    Void {
        /// A UUID that stands for this operation. Without it the gateway makes one and returns it.
        #[schema(nullable = false, format = "uuid", example = "550e8400-e29b-41d4-a716-446655440000")]
        idempotency_key: Option<String>,
        body: VoidInBatchBody,
    },
}

/// Send many operations
///
/// Up to 500 operations over all users, each as if it were sent alone: with its own key, scope and rate, and its own
/// answer, in the order of the operations. Those of one user happen in their order. One that is wrong does not hurt the
/// others. The header `Idempotency-Key` is checked and has no effect.
#[utoipa::path(
    post, path = "/batch", tag = "money",
    params(WriteHeaders),
    request_body(content = BatchBody),
    responses(
        (status = 200, description = "What became of each operation: look at every `status`.", body = ResultsSchema),
        BatchProblems,
    ),
)]
pub async fn post_batch(State(guarded): State<Guarded>, request: Request<Body>) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (gateway, caller) = guarded.identify(&parts.headers)?;
    content_headers::check(&parts.headers)?;
    check_length(&parts.headers, BATCH_MAX)?;
    read_key(&parts.headers)?;
    let body = read_body(body, BATCH_MAX, gateway.live().server.body_read_timeout).await?;
    let parameters = Parameters::read(parts.uri.query(), &[]);
    let operations = parameters.finish_with_body(read_operations(&body))?;
    let request_id: &RequestId = parts.extensions.get().expect("the front door names every request");
    let origin = request_origin::of(&parts.headers, request_id);
    let mut batch = Batch::default();
    for asked in operations {
        batch.take(asked, &caller, &origin, guarded.charges());
    }
    // A task of its own: a client that hangs up cancels nothing.
    let answering = tokio::spawn(batch.answer(gateway, origin.request_id));
    // The panic hook has logged it already.
    answering.await.map_err(|_panic| Problem::internal())
}

/// What was read of a batch, with room for the end of each operation.
#[derive(Debug, Default)]
struct Batch {
    items: Vec<Item>,
    /// Of those that a shard decides, in their order.
    commands: Vec<Command>,
}

#[derive(Debug)]
struct Item {
    key: Option<Uuid>,
    /// Why no shard is asked.
    refused: Option<Problem>,
    charge: Option<ChargeCount>,
}

impl Batch {
    /// Takes one operation through the steps of one that is sent alone, up to its command.
    fn take(&mut self, asked: Asked<'_>, caller: &Caller, origin: &Origin, charges: &ChargeMetrics) {
        let Asked { wish, key, body } = asked;
        let charge = (wish.word == CHARGE.word).then(|| charges.begin());
        let uuid = key.as_ref().ok().map(|key| key.uuid);
        let read = || {
            let made_by = caller.admit(wish.scopes)?;
            let key = key?;
            let operation = (wish.read)(body.as_bytes())?;
            Ok(command(operation, key, origin.clone(), made_by))
        };
        let refused = match read() {
            Ok(command) => {
                self.commands.push(command);
                None
            }
            Err(problem) => Some(problem),
        };
        self.items.push(Item { key: uuid, refused, charge });
    }

    async fn answer(self, gateway: Arc<GatewayState>, request_id: String) -> Response {
        let mut written = gateway.shards.write_all(self.commands).await.into_iter();
        let mut session = Session::None;
        let mut ends = Vec::with_capacity(self.items.len());
        for Item { key, refused, charge } in self.items {
            let end = match refused {
                Some(problem) => Err(problem),
                None => end_of(written.next().expect("one for each command"), &mut session),
            };
            let end = OperationEnd { key, end };
            if let Some(count) = charge {
                count.end(charge::end_of(end.is_replayed()));
            }
            ends.push(end);
        }
        if ends.iter().any(|end| end.is_replayed().is_err_and(|problem| problem.code() == Code::Internal)) {
            error!(request_id, "operations of a batch failed for a reason of our own");
        }
        let public_url = &gateway.config.public_url;
        let results = Results { ends: &ends, request_id: &request_id, public_url };
        // Most answers have 400 to 500 bytes.
        let mut response = json_of_about(512 * ends.len(), StatusCode::OK, &results);
        if let Session::OfOneShard(token) = session {
            response.headers_mut().insert(PICOPAY_SESSION.clone(), session::to_header(token));
        }
        response
    }
}

fn end_of(written: Result<Written, ShardError>, session: &mut Session) -> Result<Booked, Problem> {
    let Written { decision, session: token } = written?;
    let decided = favour_or_problem(decision);
    if decided.as_ref().map_or_else(Problem::is_recorded, |_| true) {
        session.add(token);
    }
    match decided? {
        Favour::Booked { transaction, is_replayed } => Ok(Booked { transaction, is_replayed }),
        // No operation of a batch makes a user.
        Favour::User { .. } => Err(Problem::internal()),
    }
}

/// The token with which a read sees all that was written. One token is about one shard.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Session {
    None,
    OfOneShard(SessionToken),
    OfSeveral,
}

impl Session {
    fn add(&mut self, token: Option<SessionToken>) {
        let Some(token) = token else { return };
        *self = match *self {
            Self::None => Self::OfOneShard(token),
            Self::OfOneShard(known) if known.shard_hash == token.shard_hash => {
                Self::OfOneShard(SessionToken { position: known.position.max(token.position), ..known })
            }
            Self::OfOneShard(_) | Self::OfSeveral => Self::OfSeveral,
        };
    }
}
