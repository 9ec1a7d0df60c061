//! The path of a request with its unreserved characters decoded: `/%63harge` is `/charge` (RFC 3986, section
//! 6.2.2.2).
//!
//! Everything else stays as it was written, above all `%2F` and `%25`. The router decodes the parameters
//! once.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

use crate::head::is_unreserved;

/// The same target with a plain path; `None` when it is plain already, as nearly always.
pub fn plain(uri: &Uri) -> Option<Uri> {
    let path = decode_unreserved(uri.path())?;
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

fn decode_unreserved(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut plain = parts.next()?.to_owned();
    let mut is_changed = false;
    for part in parts {
        let digits = part.as_bytes().split_at_checked(2).map(|(digits, _)| digits);
        let mut byte = [0];
        let is_plain = digits
            .is_some_and(|digits| hex::decode_to_slice(digits, &mut byte).is_ok() && is_unreserved(byte[0]));
        if is_plain {
            plain.push(char::from(byte[0]));
            plain.push_str(&part[2..]);
            is_changed = true;
        } else {
            plain.push('%');
            plain.push_str(part);
        }
    }
    is_changed.then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreserved_characters_are_decoded_once_and_nothing_else_is() {
        for (written, expected) in [
            ("/charge", None),
            ("/%63harge", Some("/charge")),
            ("/%63%68%61%72%67%65", Some("/charge")),
            ("/%76%31/health?a=%31", Some("/v1/health?a=%31")),
            ("/transactions/a%2Db%2db%5f%7E%2e", Some("/transactions/a-b-b_~.")),
            ("http://x/%63harge", Some("http://x/charge")),
            ("/a%2Fb", None),
            ("/%2563harge", None),
            ("/%25%63", Some("/%25c")),
            ("/%ff%c3%a9", None),
            ("/%", None),
            ("/%6", None),
            ("/%zz", None),
            ("/%+1", None),
        ] {
            let plain = plain(&written.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(plain.as_deref(), expected, "{written}");
        }
    }
}
