//! `/docs`: a page to read the specification and to try it. It loads everything from this gateway.

use std::sync::Arc;

use axum::extract::RawQuery;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::Config;

use crate::parameters::{Parameters, PathParameters};
use crate::problem::Problem;

/// Swagger UI looks for its files beside the page, so that it also works behind a prefix.
const PAGE: &str = include_str!("docs/page.html");
const START: &str = include_str!("docs/start.js");

/// The browser refuses to load anything from elsewhere. Swagger UI sets inline styles and shows images as
/// data.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

pub async fn get_docs(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Parameters::refuse_all(query.as_deref())?;
    let policy = (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY));
    Ok(([html(), policy], PAGE).into_response())
}

pub async fn get_docs_file(path: PathParameters, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Parameters::refuse_all(query.as_deref())?;
    let name = path.get("file").unwrap_or_default();
    if name == "start.js" {
        return Ok(
            ([(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript"))], START).into_response()
        );
    }
    // The library's own page would ask for the specification elsewhere.
    let is_asset = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"].contains(&name);
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::from("openapi.json"))).ok().flatten();
    let file = file.filter(|_| is_asset).ok_or_else(Problem::not_found)?;
    let media_type = HeaderValue::from_str(&file.content_type).map_err(|_| Problem::internal())?;
    // The files change with the gateway's version only; an hour saves a reader a megabyte.
    let cache = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(([(header::CONTENT_TYPE, media_type), cache], file.bytes.into_owned()).into_response())
}

fn html() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for text in [PAGE, START] {
            assert!(!text.contains("//") || text.contains("// "), "{text}");
            assert!(!text.contains("http:") && !text.contains("https:"), "{text}");
        }
    }
}
