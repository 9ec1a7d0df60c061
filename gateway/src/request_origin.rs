//! The origin of a command or a query: which request of which client, for logs.

use axum::http::HeaderMap;
use picopay_shared::origin::Origin;

use crate::header_names::TRACEPARENT;
use crate::request_id::RequestId;

pub fn of(headers: &HeaderMap, request_id: &RequestId) -> Origin {
    Origin { request_id: request_id.as_str().to_owned(), traceparent: traceparent(headers) }
}

/// The trace that a request belongs to, if its trace context has the form that it must have.
pub fn trace_id(headers: &HeaderMap) -> Option<String> {
    traceparent(headers)?.split('-').nth(1).map(str::to_owned)
}

/// A W3C trace context, passed on unchanged if it has the form `00-` 32 `-` 16 `-` 2 hexadecimal digits, or
/// more for a later version. Anything else is dropped, as the recommendation says.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let is_hex = |part: &&str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let [version, trace, span, flags, more @ ..] = parts.as_slice() else { return None };
    let has_form =
        is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2) && *version != "ff";
    let is_known = *version != "00" || more.is_empty();
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let fits = text.len() <= 256;
    (has_form && is_known && fits && !is_zero(trace) && !is_zero(span)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_trace_context_is_passed_on_or_dropped() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let later = format!("01{}-more", &good[2..]);
        for value in [good, &later] {
            assert_eq!(traceparent(&headers("traceparent", &[value])).as_deref(), Some(value));
        }
        for value in [
            "",
            "x",
            &format!("{good}-more"),
            &good.to_uppercase(),
            &good[..54],
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(traceparent(&headers("traceparent", &[value])), None, "{value}");
        }
        assert_eq!(traceparent(&headers("traceparent", &[good, good])), None, "which of the two?");
    }
}
