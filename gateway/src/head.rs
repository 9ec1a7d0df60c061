//! Checks of a request's head for every route: size, `Host`, `Transfer-Encoding`.
//!
//! hyper's own limits are far above these (`server.rs`), because its refusals have no body.

mod host;

use axum::http::{HeaderMap, Request, Uri, Version, header};

use self::host::is_host;
pub use self::host::is_unreserved;
use crate::problem::{FieldError, Problem};

/// Longest request target, in bytes (contract, "Errors"). The API needs about 300.
const URI_MAX: usize = 8 * 1024;
/// Header lines. Browsers behind several proxies send thirty.
const HEADER_LINES_MAX: usize = 100;
/// Names and values together, in bytes, with four for each line's separators.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// # Errors
/// 414, 431, 400 or 501, in this order.
pub fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    if length_of(request.uri()) > URI_MAX {
        return Err(Problem::uri_too_long());
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > HEADER_LINES_MAX || bytes > HEADER_BYTES_MAX {
        return Err(Problem::headers_too_large());
    }
    check_host(request)?;
    check_transfer_encoding(headers)
}

fn length_of(uri: &Uri) -> usize {
    let of_origin = uri.path_and_query().map_or(0, |target| target.as_str().len());
    // In the absolute form, `http://` and the host come first.
    let before = uri.authority().map_or(0, |authority| authority.as_str().len());
    of_origin + before + uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len())
}

/// RFC 9112, section 3.2. A proxy that disagrees about the host may also disagree about where the request
/// ends.
fn check_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let refused = |detail: &'static str| Err(Problem::host_invalid(FieldError::in_header("Host", detail)));
    let mut values = request.headers().get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        (None, _) if request.version() >= Version::HTTP_11 => {
            return refused("HTTP/1.1 needs the header Host");
        }
        (None, _) => {}
        (Some(value), None) if is_host(value.as_bytes()) => {}
        (Some(_), None) => return refused("must be a host and, after a colon, a port"),
        (Some(_), Some(_)) => return refused("the header is sent twice"),
    }
    // The absolute form takes precedence over `Host`; we serve every host alike.
    match request.uri().authority() {
        Some(authority) if !is_host(authority.as_str().as_bytes()) => {
            refused("the request target must name a host and, after a colon, a port")
        }
        _ => Ok(()),
    }
}

/// hyper decodes `chunked` alone. It also accepts another coding below it, and would pass that on undecoded.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Problem::not_implemented()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;

    fn told(request: axum::http::request::Builder) -> Option<Code> {
        check(&request.body(()).unwrap()).err().map(|problem| problem.code())
    }

    fn get(uri: &str) -> axum::http::request::Builder {
        Request::get(uri).header("host", "x")
    }

    #[test]
    fn a_head_is_as_large_as_the_contract_says() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert_eq!(told(get(&path(URI_MAX))), None);
        assert_eq!(told(get(&path(URI_MAX + 1))), Some(Code::UriTooLong));
        assert_eq!(told(get(&format!("/?{}", path(URI_MAX)))), Some(Code::UriTooLong));
        assert_eq!(told(get(&format!("http://x{}", path(URI_MAX)))), Some(Code::UriTooLong));
        let with_lines = |lines: usize| {
            (1..lines).fold(get("/"), |request, number| request.header(format!("x-{number}"), "1"))
        };
        assert_eq!(told(with_lines(100)), None);
        assert_eq!(told(with_lines(101)), Some(Code::HeadersTooLarge));
        let same_name = (0..101).fold(get("/"), |request, _| request.header("x", "1"));
        assert_eq!(told(same_name), Some(Code::HeadersTooLarge));
        let of_host = "hostx".len() + 4;
        let with_bytes = |bytes: usize| get("/").header("x", "y".repeat(bytes - of_host - "x".len() - 4));
        assert_eq!(told(with_bytes(HEADER_BYTES_MAX)), None);
        assert_eq!(told(with_bytes(HEADER_BYTES_MAX + 1)), Some(Code::HeadersTooLarge));
    }

    #[test]
    fn a_request_names_one_host() {
        let bare = |version: Version| Request::get("/").version(version);
        assert_eq!(told(bare(Version::HTTP_11)), Some(Code::InvalidRequest));
        assert_eq!(told(bare(Version::HTTP_10)), None);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(told(bare(version).header("host", "x")), None);
            for hosts in [vec!["x", "x"], vec!["x", "y"], vec!["a b/c"], vec!["x", ""]] {
                let request = hosts.iter().fold(bare(version), |request, host| request.header("host", *host));
                assert_eq!(told(request), Some(Code::InvalidRequest), "{hosts:?}");
            }
        }
        // The absolute form needs `Host` as well.
        assert_eq!(told(Request::get("http://x/")), Some(Code::InvalidRequest));
        assert_eq!(told(get("http://other:80/health")), None);
        assert_eq!(told(get("http://user@x/health")), Some(Code::InvalidRequest));
    }

    #[test]
    fn a_body_is_chunked_or_not_and_nothing_else() {
        let with = |values: &[&str]| {
            values.iter().fold(get("/"), |request, value| request.header("transfer-encoding", *value))
        };
        for values in
            [vec!["chunked"], vec!["Chunked"], vec![" chunked "], vec![", chunked"], vec!["", "chunked"]]
        {
            assert_eq!(told(with(&values)), None, "{values:?}");
        }
        for values in [
            vec!["gzip, chunked"],
            vec!["gzip,chunked"],
            vec!["gzip", "chunked"],
            vec!["identity, chunked"],
            vec!["chunked, chunked"],
            vec!["chunked", "chunked"],
            vec!["x;a=b , chunked"],
        ] {
            assert_eq!(told(with(&values)), Some(Code::NotImplemented), "{values:?}");
        }
    }
}
