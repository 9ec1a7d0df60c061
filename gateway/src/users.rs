//! `POST /users`: creates a user, who can then be topped up.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use picopay_shared::command::Operation;

use crate::fields::{self, Fields};
use crate::guarded::Guarded;
use crate::openapi::parts::{CreateUserProblems, WriteHeaders};
use crate::problem::Problem;
use crate::user_body::UserBody;
use crate::write_answer::Answered;
use crate::write_request;

/// Make a user
///
/// The id is the client's own. Making a user twice is no error.
#[utoipa::path(
    post, path = "/users", tag = "users",
    params(WriteHeaders),
    request_body(content = UserBody),
    responses(
        (status = 201, description = "The user is new.", body = UserBody),
        (status = 200, description = "The user was there already.", body = UserBody),
        CreateUserProblems,
    ),
)]
pub async fn post_users(State(guarded): State<Guarded>, request: Request<Body>) -> Result<Answered, Problem> {
    write_request::run(&guarded, request, read_user).await
}

fn read_user(body: &[u8]) -> Result<Operation, Problem> {
    let mut fields = Fields::read(body, &["user_id"])?;
    let user_id = fields.required("user_id", fields::user_id);
    fields.finish(user_id.map(|user_id| Operation::CreateUser { user_id }))
}
