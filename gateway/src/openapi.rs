//! The specification, made from the handlers themselves, and `GET /openapi.json`.
//!
//! Errors come from the table in `problem.rs`: each operation names its codes, and every code brings its example.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use picopay_shared::money::{Currency, Money};
use serde_json::json;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Header, HeaderBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};

use crate::gateway::Gateway;
use crate::parameters::Parameters;
use crate::problem::{Code, FieldError, MEDIA_TYPE, Problem};
use crate::{balance, charge, currency_schema, health, refund, session, topup, transactions, users};
use picopay_gateway_config::Scope;
use picopay_shard_client::ShardError;

/// An id like those that the gateway makes, for examples.
const EXAMPLE_REQUEST_ID: &str = "0b9f6a3e-6a0f-4c8e-9f55-1d2b3c4d5e6f";

/// The specification.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "PicoPay",
        description = "Charges stored-value balances exactly once.\n\nEvery write takes an `Idempotency-Key`: the same key \
with the same request gets the first answer again, and nothing happens twice. The answer to a write carries `PicoPay-Session`: a \
read that sends it back shows that write. Every error is an RFC 9457 problem; its `instance` is \
`urn:request:` and the id of the request, its `code` is for programs to compare. All paths are served under `/v1` and at the \
root. Parameters and fields that an operation does not name are refused.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    // Where this document came from: also behind a prefix.
    servers((url = ".", description = "This gateway.")),
    security(("api_key" = []), ("bearer" = [])),
    tags(
        (name = "money", description = "Operations on a user's balance."),
        (name = "users", description = "Who can have a balance, and what it is."),
        (name = "transactions", description = "The immutable record of every operation."),
        (name = "operation", description = "For supervisors and load balancers."),
    ),
    paths(
        charge::post_charge, topup::post_topup, refund::post_refund,
        users::post_users, balance::get_balance,
        transactions::get_transactions, transactions::get_transaction,
        health::get_health, health::get_readyz, health::get_metrics,
    ),
    components(schemas(ProblemSchema, balance::ConsistencySchema)),
    modifiers(&Finish),
)]
pub struct Specification;

/// The headers of a write.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct WriteHeaders {
    /// A UUID that stands for this operation: retry with the same one. Without it the gateway makes one and returns it.
    /// Bare or in double quotes, not the nil UUID.
    // A pattern and no `format = "uuid"`, of which generated clients make an object that no header takes.
    // Nor a look-ahead, which not every reader has: UUIDs have versions from 1 on, and the nil UUID has version 0.
    #[param(
        rename = "Idempotency-Key",
        pattern = r#"^([0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-9A-Fa-f][0-9A-Fa-f]{3}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-9A-Fa-f][0-9A-Fa-f]{3}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")$"#,
        nullable = false,
        example = "550e8400-e29b-41d4-a716-446655440000"
    )]
    idempotency_key: Option<String>,
    /// Finds the request in logs: 1 to 128 of `A–Z a–z 0–9 . _ ~ : -`. Made by the gateway when it is left out or anything else.
    #[param(rename = "X-Request-Id", nullable = false)]
    x_request_id: Option<String>,
    /// W3C trace context, passed on.
    #[param(nullable = false)]
    traceparent: Option<String>,
}

/// The headers of a read.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ReadHeaders {
    /// The `PicoPay-Session` of the answer to a write, word for word: the answer shows that write, whichever database it
    /// comes from. Send the one of the last write to this user; it does not expire. Without it a history, a lookup or an
    /// eventual balance may be some seconds old.
    #[param(
        rename = "PicoPay-Session",
        pattern = "^A[Q-Za-f][A-Za-z0-9_-]{26}$",
        nullable = false,
        example = "ASgnVfAHPGqTAAAAAwAAAAFrN01I"
    )]
    picopay_session: Option<String>,
    /// Finds the request in logs: 1 to 128 of `A–Z a–z 0–9 . _ ~ : -`. Made by the gateway when it is left out or anything else.
    #[param(rename = "X-Request-Id", nullable = false)]
    x_request_id: Option<String>,
}

/// An RFC 9457 problem.
#[derive(Debug, ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "the documentation is made of its fields")]
pub struct ProblemSchema {
    /// A page that says what it means.
    #[schema(format = "uri")]
    r#type: String,
    /// The same for every problem of this type.
    title: String,
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// `urn:request:` and the id of the request; in a replayed refusal, of the request that was refused first.
    instance: String,
    /// The last part of `type`.
    code: String,
    /// Of `invalid-request`: everything that is wrong.
    #[schema(nullable = false)]
    errors: Option<Vec<FieldError>>,
    /// Of `insufficient-balance`: what the user had.
    #[schema(nullable = false)]
    balance: Option<String>,
    /// Of `insufficient-balance`: what the charge needed.
    #[schema(nullable = false)]
    required: Option<String>,
    /// Of `insufficient-balance`.
    #[schema(nullable = false)]
    currency: Option<String>,
    /// Of `idempotency-key-reused`: the fields that differ.
    #[schema(nullable = false)]
    differs: Option<Vec<String>>,
    /// Of a refused refund: what can still be refunded.
    #[schema(nullable = false)]
    remaining: Option<String>,
    /// Of `forbidden`: the scope that the key lacks.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// Of 503: the shard concerned, when it is known.
    #[schema(nullable = false)]
    shard: Option<String>,
}

macro_rules! problem_sets {
    ($($(#[$doc:meta])* $name:ident = $($code:ident)+;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                problem_responses(&[$(Code::$code),+])
            }
        }
    )+};
}

problem_sets! {
    /// Of `POST /charge`.
    PaymentProblems = InvalidRequest InvalidIdempotencyKey Unauthorized InsufficientBalance Forbidden UserNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused RateLimited Internal ShardUnavailable Overloaded SlotMoving OutcomeUnknown;
    /// Of `POST /topup`.
    TopUpProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden UserNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused RateLimited Internal ShardUnavailable Overloaded SlotMoving OutcomeUnknown;
    /// Of `POST /refund`.
    RefundProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden TransactionNotFound
        RequestTimeout TooLarge UnsupportedMediaType IdempotencyKeyReused RefundExceedsCharge NotRefundable RateLimited Internal ShardUnavailable
        Overloaded SlotMoving OutcomeUnknown;
    /// Of `POST /users`.
    CreateUserProblems = InvalidRequest InvalidIdempotencyKey Unauthorized Forbidden RequestTimeout TooLarge UnsupportedMediaType
        RateLimited Internal ShardUnavailable Overloaded SlotMoving OutcomeUnknown;
    /// Of `GET /users/{user_id}/balance`.
    BalanceProblems = InvalidRequest Unauthorized Forbidden UserNotFound RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    /// Of `GET /transactions`.
    HistoryProblems = InvalidRequest Unauthorized Forbidden UserNotFound RateLimited Internal ShardUnavailable Overloaded SlotMoving;
    /// Of `GET /transactions/{id}`.
    LookupProblems = InvalidRequest Unauthorized Forbidden TransactionNotFound RateLimited Internal ShardUnavailable Overloaded
        SlotMoving;
    /// Of `GET /readyz`.
    NotReadyProblems = InvalidRequest ShardUnavailable;
    /// Of what needs no key and cannot fail.
    OpenProblems = InvalidRequest;
}

/// What any request may be told, whatever it is for.
const OF_EVERY_HEAD: [Code; 3] = [Code::UriTooLong, Code::HeadersTooLarge, Code::NotImplemented];

/// One response per status, with an example for each code.
fn problem_responses(codes: &[Code]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for code in codes.iter().chain(&OF_EVERY_HEAD) {
        by_status.entry(code.status().as_u16().to_string()).or_default().push(*code);
    }
    let respond = |(status, codes): (String, Vec<Code>)| {
        let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        let mut description = Vec::new();
        for code in codes {
            description.push(format!("`{}`: {}", code.suffix(), code.meaning()));
            let example = ExampleBuilder::new().summary(code.title()).value(Some(example(code)));
            content = content.examples_from_iter([(code.suffix(), RefOr::T(example.build()))]);
        }
        let mut response =
            ResponseBuilder::new().description(description.join("\n\n")).content(MEDIA_TYPE, content.build());
        if matches!(status.as_str(), "429" | "503") {
            response = response.header("Retry-After", header_of(Type::Integer, "Whole seconds to wait."));
        }
        if status == "401" {
            response = response.header("WWW-Authenticate", header_of(Type::String, "`Bearer`."));
        }
        (status, RefOr::T(response.build()))
    };
    by_status.into_iter().map(respond).collect()
}

/// What the problem looks like, written by the same code as the real one.
fn example(code: Code) -> serde_json::Value {
    let usd = |text| Money::parse(text, Currency::parse("USD").expect("in ISO 4217")).expect("an amount");
    let shard = || Some("shard-1".to_owned());
    let soon = Duration::from_secs(1);
    let problem = match code {
        Code::InvalidRequest => Problem::invalid_request(vec![
            FieldError::in_field("amount", "USD takes at most 2 decimals"),
            FieldError::in_field(
                "note",
                "unknown field; there are user_id, amount, currency, reference, metadata",
            ),
        ]),
        Code::InvalidIdempotencyKey => Problem::invalid_idempotency_key("the header is sent twice"),
        Code::Unauthorized => Problem::key_missing(),
        Code::Forbidden => Problem::scope_missing(&[Scope::Charge]),
        Code::InsufficientBalance => Problem::insufficient_balance(usd("7.50"), usd("50.00")),
        Code::UserNotFound => Problem::user_not_found(),
        Code::TransactionNotFound => Problem::transaction_not_found(),
        Code::NotFound => Problem::not_found(),
        Code::MethodNotAllowed => Problem::method_not_allowed(),
        Code::RequestTimeout => Problem::body_too_slow(),
        Code::TooLarge => Problem::too_large(),
        Code::UriTooLong => Problem::uri_too_long(),
        Code::UnsupportedMediaType => Problem::unsupported_media_type(),
        Code::IdempotencyKeyReused => Problem::key_reused(vec!["amount".to_owned()]),
        Code::RefundExceedsCharge => Problem::refund_exceeds_charge(usd("3.00")),
        Code::NotRefundable => Problem::not_refundable(usd("1").currency()),
        Code::RateLimited => Problem::rate_limited(soon),
        Code::HeadersTooLarge => Problem::headers_too_large(),
        Code::Internal => Problem::internal(),
        Code::NotImplemented => Problem::not_implemented(),
        Code::ShardUnavailable => ShardError::Unavailable { shard: shard(), retry_after: soon }.into(),
        Code::Overloaded => ShardError::Overloaded { shard: "shard-1".to_owned(), retry_after: soon }.into(),
        Code::SlotMoving => ShardError::SlotMoving { shard: shard(), retry_after: soon }.into(),
        Code::OutcomeUnknown => ShardError::OutcomeUnknown.into(),
    };
    serde_json::from_slice(&problem.body(EXAMPLE_REQUEST_ID, "")).expect("a problem is JSON")
}

fn header_of(kind: Type, description: &str) -> Header {
    let schema: Object = ObjectBuilder::new().schema_type(kind).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// What all operations have, said once: the schemes of the key, and the headers of every answer.
struct Finish;

impl Modify for Finish {
    fn modify(&self, specification: &mut utoipa::openapi::OpenApi) {
        let components = specification.components.get_or_insert_default();
        let key = ApiKeyValue::with_description("X-API-Key", "The API key.");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let bearer =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The API key.")).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for path in specification.paths.paths.values_mut() {
            if let Some(operation) = &mut path.post {
                add_headers(
                    operation,
                    Where::Everywhere,
                    &[
                        ("Idempotency-Key", "The key in use, sent by the client or made by the gateway."),
                        ("Idempotent-Replayed", "`true` when this answer was given before."),
                    ],
                );
                let description = "For reads that must show this write: an opaque text to send back. With every answer that \
                    is recorded, a refusal or a replay too.";
                add_headers(operation, Where::Recorded, &[(session::NAME, description)]);
            }
            if let Some(operation) = &mut path.get {
                let is_read =
                    operation.tags.iter().flatten().any(|tag| tag == "users" || tag == "transactions");
                if is_read {
                    add_headers(
                        operation,
                        Where::FoundOrNot,
                        &[
                            ("PicoPay-Source", "Where the answer came from: `primary` or `replica`."),
                            ("PicoPay-Lag-Ms", "How far the replica was behind, in milliseconds."),
                        ],
                    );
                }
            }
            for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
                add_headers(
                    operation,
                    Where::Everywhere,
                    &[("X-Request-Id", "The id of the request, taken over or made.")],
                );
            }
        }
    }
}

/// Which answers of an operation carry a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Everywhere,
    /// What a shard decided and keeps.
    Recorded,
    /// What a shard said about its rows.
    FoundOrNot,
}

impl Where {
    fn includes(self, status: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Recorded => matches!(status, "200" | "201" | "402" | "422"),
            Self::FoundOrNot => matches!(status, "200" | "404"),
        }
    }
}

fn add_headers(operation: &mut Operation, place: Where, headers: &[(&str, &str)]) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if !place.includes(status) {
            continue;
        }
        for (name, description) in headers {
            let header = header_of(Type::String, description);
            response.headers.insert((*name).to_owned(), header.into());
        }
    }
}

/// `GET /openapi.json`.
pub async fn get_openapi(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| serde_json::to_string_pretty(&specification()).expect("a specification is JSON"));
    Parameters::refuse_all(query.as_deref())?;
    // The examples' `type` is written without the address, which only the configuration knows.
    let text = TEXT.replace("\"/problems/", &format!("\"{}/problems/", gateway.config.public_url));
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], Bytes::from(text)).into_response())
}

/// The specification, with the one thing that `utoipa` has no words for: an amount has at most the decimals of its currency.
fn specification() -> serde_json::Value {
    let mut document = serde_json::to_value(Specification::openapi()).expect("a specification is JSON");
    let rules: Vec<serde_json::Value> = (0..4)
        .map(|decimals| {
            let codes: Vec<&str> =
                Currency::all().filter(|currency| currency.scale() == decimals).map(Currency::code).collect();
            let amount = currency_schema::amount(decimals).build();
            json!({
                "if": {"properties": {"currency": {"enum": codes}}, "required": ["currency"]},
                "then": {"properties": {"amount": amount}},
            })
        })
        .collect();
    for name in ["Charge", "TopUp"] {
        document["components"]["schemas"][name]["allOf"] = rules.clone().into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_names_every_route_of_the_contract() {
        let specification = specification();
        assert!(specification["openapi"].as_str().unwrap().starts_with("3.1"));
        for (method, path) in [
            ("post", "/users"),
            ("post", "/topup"),
            ("post", "/charge"),
            ("post", "/refund"),
            ("get", "/users/{user_id}/balance"),
            ("get", "/transactions"),
            ("get", "/transactions/{id}"),
            ("get", "/health"),
            ("get", "/readyz"),
            ("get", "/metrics"),
        ] {
            let operation = &specification["paths"][path][method];
            assert!(operation["summary"].is_string(), "{method} {path}");
            let header = &operation["responses"]["200"]["headers"]["X-Request-Id"];
            assert!(header.is_object(), "{method} {path}: {operation:#}");
        }
    }

    #[test]
    fn what_a_write_gives_a_read_takes() {
        let specification = specification();
        for (path, statuses) in
            [("/users", ["200", "201"]), ("/charge", ["200", "402"]), ("/refund", ["200", "422"])]
        {
            for status in statuses {
                let headers = &specification["paths"][path]["post"]["responses"][status]["headers"];
                assert!(headers[session::NAME].is_object(), "{path} {status}");
            }
        }
        for path in ["/users/{user_id}/balance", "/transactions", "/transactions/{id}"] {
            let operation = &specification["paths"][path]["get"];
            let parameters = operation["parameters"].as_array().unwrap();
            let named = parameters.iter().find(|parameter| parameter["name"] == session::NAME);
            assert_eq!(named.unwrap()["in"], "header", "{path}");
            for status in ["200", "404"] {
                let header = &operation["responses"][status]["headers"]["PicoPay-Source"];
                assert!(header.is_object(), "{path} {status}");
            }
        }
    }

    /// Whatever a reference names must be there: generators stop at the first that is not.
    #[test]
    fn every_reference_leads_somewhere_and_no_description_speaks_of_this_program() {
        fn walk(value: &serde_json::Value, seen: &mut Vec<(String, String)>) {
            match value {
                serde_json::Value::Object(members) => {
                    for (name, member) in members {
                        if let Some(text) = member.as_str() {
                            seen.push((name.clone(), text.to_owned()));
                        }
                        walk(member, seen);
                    }
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, seen)),
                _ => {}
            }
        }
        let specification = specification();
        let mut texts = Vec::new();
        walk(&specification, &mut texts);
        for (name, text) in &texts {
            if name == "$ref" {
                let pointer = text.strip_prefix('#').unwrap();
                assert!(specification.pointer(pointer).is_some(), "{text} leads nowhere");
            }
            if name == "description" || name == "summary" {
                for word in ["[`", "the documentation", "Schema", "Body", "::", ".rs"] {
                    assert!(!text.contains(word), "{word:?} in {text:?}");
                }
            }
        }
        assert_eq!(specification["servers"][0]["url"], ".", "relative to where the document is");
    }

    #[test]
    fn parameters_say_what_they_take() {
        let specification = specification();
        let schema_of = |path: &str, name: &str| {
            let operation = specification["paths"][path].as_object().unwrap().values().next().unwrap();
            let parameters = operation["parameters"].as_array().unwrap();
            let parameter = parameters.iter().find(|parameter| parameter["name"] == name);
            let schema = &parameter.unwrap_or_else(|| panic!("{path} {name}"))["schema"];
            match schema["$ref"].as_str() {
                Some(reference) => specification.pointer(&reference[1..]).unwrap().clone(),
                None => schema.clone(),
            }
        };
        assert_eq!(schema_of("/transactions", "kind")["enum"], json!(["topup", "charge", "refund"]));
        assert_eq!(
            schema_of("/users/{user_id}/balance", "consistency")["enum"],
            json!(["strong", "eventual"])
        );
        assert!(schema_of("/users/{user_id}/balance", "currency")["enum"].as_array().unwrap().len() > 200);
        for name in ["from", "to"] {
            assert_eq!(schema_of("/transactions", name)["format"], "date-time");
        }
        // Generated clients make an object of it that no header takes.
        let key = schema_of("/charge", "Idempotency-Key");
        assert!(key["format"].is_null() && key["pattern"].is_string(), "{key}");
    }

    #[test]
    fn every_error_of_an_operation_has_an_example_that_names_its_code() {
        let specification = specification();
        let responses = &specification["paths"]["/charge"]["post"]["responses"];
        for (status, suffix) in [
            ("400", "invalid-request"),
            ("400", "invalid-idempotency-key"),
            ("402", "insufficient-balance"),
            ("422", "idempotency-key-reused"),
            ("503", "slot-moving"),
            ("504", "outcome-unknown"),
        ] {
            let example = &responses[status]["content"][MEDIA_TYPE]["examples"][suffix]["value"];
            assert_eq!(example["code"], suffix, "{status}");
        }
        assert!(responses["503"]["headers"]["Retry-After"].is_object());
    }

    #[test]
    fn the_documented_fields_are_those_that_are_read() {
        let specification = specification();
        let names = |schema: &str| -> Vec<String> {
            let properties = &specification["components"]["schemas"][schema]["properties"];
            properties.as_object().unwrap_or_else(|| panic!("{schema}")).keys().cloned().collect()
        };
        // Sorted, as serde_json keeps them.
        for payment in ["Charge", "TopUp"] {
            assert_eq!(names(payment), ["amount", "currency", "metadata", "reference", "user_id"]);
        }
        assert_eq!(names("Refund"), ["amount", "transaction_id"]);
        assert_eq!(names("User"), ["user_id"]);
        for schema in ["Transaction", "WriteAnswer", "Page", "LookupAnswer", "Problem", "BalanceAnswer"] {
            assert!(specification["components"]["schemas"][schema].is_object(), "{schema}");
        }
    }
}
