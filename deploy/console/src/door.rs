//! Who may ask. The page has no login: it is for whoever works on this machine, and for no page of anybody else.
//!
//! A browser on this machine also shows foreign pages. Such a page may have its own name lead here (DNS rebinding): then
//! `Host` is not of this machine. Or it may ask by this machine's name: then `Sec-Fetch-Site` says so
//! (<https://www.w3.org/TR/fetch-metadata/>).

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::page;

/// The page has no script and no style but its own files, and speaks to nobody else.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'self'");

pub async fn guard(request: Request, next: Next) -> Response {
    let mut answer = match refusal(&request) {
        None => next.run(request).await,
        Some((status, why)) => (status, format!("{why}\n")).into_response(),
    };
    if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    protect(answer.headers_mut());
    answer
}

fn refusal(request: &Request) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    if !is_of_this_machine(headers) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "open it by the name of this machine itself: localhost, 127.0.0.1 or [::1]",
        ));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "nothing is changed here: the page only looks"));
    }
    // A link from elsewhere may lead to the page, which says nothing by itself.
    let is_page = page::is_file(request.uri().path());
    if !is_page && !is_asked_by_the_page(headers) {
        return Some((StatusCode::FORBIDDEN, "another page may not ask"));
    }
    None
}

/// With any port: a tunnel of SSH has one of its own.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// A program that is no browser says nothing, and may ask: it could read the cluster's file as well.
fn is_asked_by_the_page(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_none_or(|site| site.as_bytes() == b"same-origin" || site.as_bytes() == b"none")
}

fn protect(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // `default-src` says nothing about frames around the page.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
}
