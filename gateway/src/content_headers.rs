//! The headers that describe the body of a write: `Content-Type` and `Content-Encoding`.

use axum::http::{HeaderMap, header};

use crate::problem::Problem;

/// Accepts `application/json`, uncompressed, with any parameters but no charset other than UTF-8.
///
/// # Errors
/// 415.
pub fn check(headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if is_json(value.as_bytes()) => {}
        _ => return Err(Problem::unsupported_media_type()),
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut encodings = encodings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_plain = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    if encodings.all(is_plain) { Ok(()) } else { Err(Problem::unsupported_encoding()) }
}

fn is_json(value: &[u8]) -> bool {
    if value == b"application/json" {
        return true;
    }
    let mut parts = split_unquoted(value).into_iter();
    let is_json =
        parts.next().is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"application/json"));
    is_json && parts.all(is_no_other_charset)
}

/// Parameters are ignored (RFC 8259 defines none), except a charset that is not UTF-8.
fn is_no_other_charset(parameter: &[u8]) -> bool {
    let Some(mark) = parameter.iter().position(|byte| *byte == b'=') else { return true };
    let (name, value) = (parameter[..mark].trim_ascii(), parameter[mark + 1..].trim_ascii());
    if !name.eq_ignore_ascii_case(b"charset") {
        return true;
    }
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    // In quotes, a backslash escapes the next character.
    let value: Vec<u8> = match quoted {
        Some(text) => text.iter().copied().filter(|byte| *byte != b'\\').collect(),
        None => value.to_vec(),
    };
    // "utf8" is no registered name, but many libraries send it.
    value.eq_ignore_ascii_case(b"utf-8") || value.eq_ignore_ascii_case(b"utf8")
}

fn split_unquoted(value: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => {
                parts.push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn is_taken(name: &'static str, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        if name != "content-type" {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        check(&headers).is_ok()
    }

    #[test]
    fn only_json_is_taken_whatever_else_is_said_of_it() {
        for value in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "application/json; charset=\"utf-8\"",
            "application/json; charset=utf8",
            "application/json; Charset=\"UTF8\"",
            "application/json; charset=\"utf\\-8\"",
            "application/json; version=1",
            "application/json ; version=1; charset=utf-8; profile=\"a;charset=latin1\"",
            "application/json; q=\"\\\"; charset=latin1\"",
            "application/json;",
            "application/json; odata.metadata=minimal",
            "application/json; charsets=latin1",
        ] {
            assert!(is_taken("content-type", &[value]), "{value}");
        }
        for values in [
            vec![],
            vec![""],
            vec!["text/json"],
            vec!["text/plain"],
            vec!["application/jsonx"],
            vec!["application/json, application/json"],
            vec!["application/json; charset=latin1"],
            vec!["application/json; charset=utf-16"],
            vec!["application/json; charset="],
            vec!["application/json; version=1; CHARSET=\"iso-8859-1\""],
            vec!["application/json; charset=utf-8; charset=latin1"],
            vec!["application/x-www-form-urlencoded"],
            vec!["application/problem+json"],
            vec!["application/json", "application/json"],
        ] {
            assert!(!is_taken("content-type", &values), "{values:?}");
        }
    }

    #[test]
    fn only_what_is_sent_as_it_is_is_taken() {
        for values in [vec![], vec![""], vec!["identity"], vec!["Identity"], vec!["identity, identity"]] {
            assert!(is_taken("content-encoding", &values), "{values:?}");
        }
        for values in [
            vec!["gzip"],
            vec!["x-gzip"],
            vec!["br"],
            vec!["deflate"],
            vec!["identity, gzip"],
            vec!["identity", "zstd"],
        ] {
            assert!(!is_taken("content-encoding", &values), "{values:?}");
        }
    }
}
