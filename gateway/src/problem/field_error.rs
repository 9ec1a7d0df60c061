//! One error in a request, and where it is: an entry of `errors` in `invalid-request`.

use serde::Serialize;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// What would be right.
    #[schema(example = "USD takes at most 2 decimals")]
    pub detail: String,
    /// Where it is wrong: exactly one of these.
    #[serde(flatten)]
    #[schema(inline)]
    pub place: Place,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the body: a JSON pointer (RFC 6901), empty for the body as a whole.
    #[schema(example = "/amount")]
    Pointer(String),
    /// In the path or the query: the parameter's name.
    Parameter(String),
    /// In a header: its name.
    Header(String),
}

impl FieldError {
    pub fn in_field(name: &str, detail: impl Into<String>) -> Self {
        let pointer = format!("/{}", escape_pointer(name));
        Self { detail: detail.into(), place: Place::Pointer(pointer) }
    }

    pub fn in_body(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), place: Place::Pointer(String::new()) }
    }

    /// An error in a parameter of the path or the query.
    pub fn in_parameter(name: &str, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), place: Place::Parameter(name.to_owned()) }
    }

    pub fn in_header(name: &str, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), place: Place::Header(name.to_owned()) }
    }

    /// The same error in a body that stands at `pointer` of a larger one.
    #[must_use]
    pub fn below(self, pointer: &str) -> Self {
        let place = match self.place {
            Place::Pointer(within) => Place::Pointer(format!("{pointer}{within}")),
            elsewhere => elsewhere,
        };
        Self { place, ..self }
    }
}

fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
