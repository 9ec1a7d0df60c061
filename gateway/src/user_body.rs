//! A user, as the API writes one.

use serde::Serialize;

/// A user, by the client's own id.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = User)]
#[serde(deny_unknown_fields)]
pub struct UserBody {
    /// The user's id, which the client chose.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64, example = 1)]
    pub user_id: i64,
}
