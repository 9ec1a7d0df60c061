//! The grammar of `Host`: `uri-host [ ":" port ]` (RFC 9110, section 7.2; RFC 3986, section 3.2.2).

use std::net::Ipv6Addr;

/// Whether `text` is a host, perhaps with a port. It may be empty, as for a URI without a host.
pub fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            let (address, rest) = (&literal[..end], &literal[end + 1..]);
            if !is_ip_literal(address) {
                return false;
            }
            (&b""[..], rest)
        }
        None => text.split_at(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    is_registered_name(host) && is_port(port)
}

/// A name or an IPv4 address, which uses the same letters.
fn is_registered_name(mut host: &[u8]) -> bool {
    while let Some((first, rest)) = host.split_first() {
        host = match (first, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            (byte, rest) if is_unreserved(*byte) || is_sub_delimiter(*byte) => rest,
            _ => return false,
        };
    }
    true
}

/// The text in square brackets. A zone (`%25eth0`) has a meaning only on the machine that wrote it.
fn is_ip_literal(address: &[u8]) -> bool {
    let of_the_future = |address: &[u8]| {
        let mut parts = address.splitn(2, |byte| *byte == b'.');
        let (Some(version), Some(rest)) = (parts.next(), parts.next()) else { return false };
        let is_letter = |byte: &u8| is_unreserved(*byte) || is_sub_delimiter(*byte) || *byte == b':';
        let has_version = !version.is_empty() && version.iter().all(u8::is_ascii_hexdigit);
        has_version && !rest.is_empty() && rest.iter().all(is_letter)
    };
    match address {
        [b'v' | b'V', address @ ..] => of_the_future(address),
        _ => std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    }
}

/// Nothing, or a colon and digits. No digits mean the default (RFC 3986, section 3.2.3).
fn is_port(port: &[u8]) -> bool {
    port.is_empty() || port.strip_prefix(b":").is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

/// Letters that mean the same with and without percent-encoding (RFC 3986, section 2.3).
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_sub_delimiter(byte: u8) -> bool {
    b"!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_the_grammar() {
        for host in [
            "",
            "x",
            "pay.example",
            "pay.example:8080",
            "pay.example:",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "[2001:db8::1]:443",
            "[v1.fe80::a+en1]",
            "a_b",
            "xn--bcher-kva.example",
            "a%20b",
            "x.",
            ":80",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b/c",
            "a b",
            "a/b",
            "http://x",
            "x@y",
            "x:y",
            "x:80:80",
            "x:-1",
            "::1",
            "[::1",
            "[::1]x",
            "[]",
            "[x]",
            "[fe80::1%25eth0]",
            "a%2",
            "a%zz",
            "a\\b",
            "a?b",
            "a#b",
            "ü",
            "a\tb",
            "\"x\"",
            "<x>",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
