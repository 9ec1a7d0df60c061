//! The specification, made from the handlers, and `GET /openapi.json`.
//!
//! Errors come from the table in `problem.rs`: each operation names its codes, and every code has an example.

pub mod parts;

use std::sync::{Arc, LazyLock};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use picopay_shared::money::Currency;
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use self::parts::{ProblemSchema, header_of};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::state::GatewayState;
use crate::{
    balance, batch, charge, currency_schema, health, hold, holds, refund, session, sums, topup, totals,
    transactions, transfer, transfers, users,
};

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
    // Relative, so that it also works behind a prefix.
    servers((url = ".", description = "This gateway.")),
    security(("api_key" = []), ("bearer" = [])),
    tags(
        (name = "money", description = "Operations on a user's balance."),
        (name = "holds", description = "Money that is reserved for a charge to come."),
        (name = "transfers", description = "Money from one user to another."),
        (name = "users", description = "Who can have a balance, and what it is."),
        (name = "transactions", description = "The immutable record of every operation."),
        (name = "operation", description = "For supervisors and load balancers."),
    ),
    paths(
        charge::post_charge, topup::post_topup, refund::post_refund, batch::post_batch,
        hold::post_hold, hold::capture::post_capture, hold::void::post_void, holds::get_holds, holds::get_hold,
        transfer::post_transfer, transfers::get_transfer,
        users::post_users, balance::get_balance,
        transactions::get_transactions, transactions::get_transaction, sums::post_sums, totals::get_totals,
        health::get_health, health::get_readyz, health::get_metrics,
    ),
    components(schemas(ProblemSchema, balance::ConsistencySchema)),
    modifiers(&Finish),
)]
pub struct Specification;

/// What all operations share: the ways to send the key, and the headers of every answer.
struct Finish;

impl Modify for Finish {
    fn modify(&self, specification: &mut utoipa::openapi::OpenApi) {
        let components = specification.components.get_or_insert_default();
        let key = ApiKeyValue::with_description("X-API-Key", "The API key.");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let bearer =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The API key.")).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for (name, path) in &mut specification.paths.paths {
            // The one read that is a POST, because a URL has no room for so many users.
            if let Some(operation) = path.post.as_mut().filter(|_| name != "/sums") {
                // A batch has no key. Each of its operations has.
                if name != "/batch" {
                    add_headers(
                        operation,
                        Where::Everywhere,
                        &[
                            ("Idempotency-Key", "The key in use, sent by the client or made by the gateway."),
                            ("Idempotent-Replayed", "`true` when this answer was given before."),
                        ],
                    );
                }
                let description = "For reads that must show this write: an opaque text to send back. With every answer that \
                    is recorded, a refusal or a replay too; of a batch only when one shard has all its users.";
                add_headers(operation, Where::Recorded, &[(session::NAME, description)]);
            }
            if let Some(operation) = &mut path.get {
                let is_read = operation
                    .tags
                    .iter()
                    .flatten()
                    .any(|tag| ["users", "holds", "transfers", "transactions"].contains(&tag.as_str()));
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
    /// Answers that a shard decided and keeps.
    Recorded,
    /// Answers from a shard's rows.
    FoundOrNot,
}

impl Where {
    fn includes(self, status: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Recorded => matches!(status, "200" | "201" | "202" | "402" | "422"),
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

pub async fn get_openapi(
    State(gateway): State<Arc<GatewayState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| serde_json::to_string_pretty(&specification()).expect("a specification is JSON"));
    Parameters::refuse_all(query.as_deref())?;
    // The examples' `type` lacks the address, which only the configuration knows.
    let text = TEXT.replace("\"/problems/", &format!("\"{}/problems/", gateway.config.public_url));
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], Bytes::from(text)).into_response())
}

/// The specification with what `utoipa` cannot express: an amount has at most the decimals of its currency, an operation of a
/// batch has no other fields, each of a list's users has the bounds of one, an answer may fit several forms, and a body that
/// may be left out is not `null`.
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
    for name in ["Charge", "TopUp", "NewHold", "NewTransfer"] {
        document["components"]["schemas"][name]["allOf"] = rules.clone().into();
    }
    let operations = document["components"]["schemas"]["BatchOperation"]["oneOf"].as_array_mut();
    for operation in operations.expect("an operation is one of several") {
        operation["additionalProperties"] = false.into();
    }
    let schemas = &mut document["components"]["schemas"];
    schemas["SumsQuery"]["properties"]["user_ids"]["items"] =
        schemas["User"]["properties"]["user_id"].clone();
    // No balances at all fit both forms of the answer.
    let forms = schemas["BalanceAnswer"].as_object_mut().and_then(|answer| answer.remove("oneOf"));
    schemas["BalanceAnswer"]["anyOf"] = forms.expect("an answer is one of several");
    for step in ["capture", "void"] {
        let post = &mut document["paths"][format!("/holds/{{id}}/{step}")]["post"];
        let schema = &mut post["requestBody"]["content"]["application/json"]["schema"];
        *schema = schema["oneOf"][0].take();
    }
    document
}

#[cfg(test)]
mod tests {
    use picopay_shared::command::Kind;

    use super::*;
    use crate::problem::MEDIA_TYPE;

    #[test]
    fn the_specification_names_every_route_of_the_contract() {
        let specification = specification();
        assert!(specification["openapi"].as_str().unwrap().starts_with("3.1"));
        for (method, path) in [
            ("post", "/users"),
            ("post", "/topup"),
            ("post", "/charge"),
            ("post", "/refund"),
            ("post", "/batch"),
            ("post", "/holds"),
            ("post", "/holds/{id}/capture"),
            ("post", "/holds/{id}/void"),
            ("get", "/holds"),
            ("get", "/holds/{id}"),
            ("post", "/transfers"),
            ("get", "/transfers/{id}"),
            ("get", "/users/{user_id}/balance"),
            ("get", "/transactions"),
            ("get", "/transactions/{id}"),
            ("post", "/sums"),
            ("get", "/totals"),
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
        for (path, statuses) in [
            ("/users", vec!["200", "201"]),
            ("/charge", vec!["200", "402"]),
            ("/refund", vec!["200", "422"]),
            ("/batch", vec!["200"]),
            ("/transfers", vec!["200", "202", "402"]),
        ] {
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

    /// Generators stop at the first reference to something that is missing.
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
        assert_eq!(schema_of("/transactions", "kind")["enum"], json!(Kind::ALL.map(Kind::as_str)));
        assert_eq!(
            schema_of("/users/{user_id}/balance", "consistency")["enum"],
            json!(["strong", "eventual"])
        );
        assert!(schema_of("/users/{user_id}/balance", "currency")["enum"].as_array().unwrap().len() > 200);
        for name in ["from", "to"] {
            assert_eq!(schema_of("/transactions", name)["format"], "date-time");
        }
        // Generated clients would make an object of it, which no header accepts.
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
        let operations = &specification["components"]["schemas"]["BatchOperation"]["oneOf"];
        assert!(operations.as_array().unwrap().iter().all(|one| one["additionalProperties"] == false));
        for (step, schema) in [("capture", "Capture"), ("void", "Void")] {
            let body = &specification["paths"][format!("/holds/{{id}}/{step}")]["post"]["requestBody"];
            let reference = body["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
            assert!(reference.ends_with(&format!("/{schema}")) && body["required"] != true, "{body}");
        }
        for payment in ["Charge", "TopUp"] {
            assert_eq!(names(payment), ["amount", "currency", "metadata", "reference", "user_id"]);
        }
        assert_eq!(
            names("NewTransfer"),
            ["amount", "currency", "from_user_id", "metadata", "reference", "to_user_id"]
        );
        assert_eq!(names("Refund"), ["amount", "transaction_id"]);
        assert_eq!(
            names("NewHold"),
            ["amount", "currency", "expires_in", "metadata", "reference", "user_id"]
        );
        assert_eq!(
            (names("Capture"), names("CaptureInBatch")),
            (vec!["amount".into()], vec!["amount".into(), "hold_id".into()])
        );
        assert_eq!(names("User"), ["user_id"]);
        let schemas = &specification["components"]["schemas"];
        assert_eq!(schemas["SumsQuery"]["properties"]["user_ids"]["items"]["minimum"], 1);
        assert_eq!(schemas["BalanceAnswer"]["anyOf"].as_array().map(Vec::len), Some(4));
        for schema in ["Transaction", "WriteAnswer", "Page", "LookupAnswer", "Problem", "BalanceAnswer"] {
            assert!(specification["components"]["schemas"][schema].is_object(), "{schema}");
        }
    }
}
