//! Where requests go, and how they are written.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use picopay_tls::{Authorities, Caller};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

#[derive(Debug, Clone)]
pub struct Target {
    url: String,
    address: SocketAddr,
    host: String,
    path: String,
    api_key: String,
    tls: Option<Tls>,
}

/// What connections demand where the URL says `https`.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// # Errors
    /// When the library refuses it.
    pub fn begin(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)
    }
}

/// Tried only on this machine, so that no key is guessed elsewhere.
const DEMO_KEY: &str = "dev-key";

impl Target {
    /// Reads `http://host[:port][/path]` and resolves the host. Another host than this machine needs a key.
    pub fn new(url: &str, api_key: Option<&str>) -> anyhow::Result<Self> {
        Self::trusting(url, api_key, None)
    }

    /// The same for `https://`, where this file has the authority that the gateway's certificate must be of. Without one,
    /// those count that the system trusts.
    pub fn trusting(url: &str, api_key: Option<&str>, cacert: Option<&Path>) -> anyhow::Result<Self> {
        let (rest, has_tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => bail!("--url {url}: it must look like http://127.0.0.1:8080"),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.is_empty() || authority.contains('@') || path.contains(['?', '#', ' ']) {
            bail!("--url {url}: it must look like http://127.0.0.1:8080");
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{}", if has_tls { 443 } else { 80 })
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("--url {url}: the host has no address"))?
            .next()
            .with_context(|| format!("--url {url}: the host has no address"))?;
        let api_key = match api_key {
            Some(key) => key.to_owned(),
            None if is_this_machine(address.ip()) => DEMO_KEY.to_owned(),
            None => {
                bail!("--api-key (or PICOPAY_API_KEY) is needed for a gateway that is not on this machine")
            }
        };
        if api_key.is_empty() || !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("--api-key: a key has only visible ASCII characters and no blanks");
        }
        let path = path.trim_end_matches('/').to_owned();
        let tls = if has_tls { Some(tls(&with_port, cacert)?) } else { None };
        Ok(Self { url: url.to_owned(), address, host: authority.to_owned(), path, api_key, tls })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is shown there: a secret.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub fn is_local(&self) -> bool {
        is_this_machine(self.address.ip())
    }

    pub fn form(&self, method: &'static str, path: &str) -> Form {
        let Self { host, path: base, api_key, .. } = self;
        let head = format!("{method} {base}{path}");
        let middle = format!(" HTTP/1.1\r\nhost: {host}\r\nx-api-key: {api_key}\r\n");
        Form { head: head.into_bytes(), middle: middle.into_bytes() }
    }
}

fn tls(host_and_port: &str, cacert: Option<&Path>) -> anyhow::Result<Tls> {
    let host =
        host_and_port.rsplit_once(':').map_or(host_and_port, |(host, _)| host).trim_matches(['[', ']']);
    let authorities = match cacert {
        Some(file) => Authorities::read(file).context("--cacert")?,
        None => Authorities::of_system()?,
    };
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("--url: {host} is no name of a server"))?;
    Ok(Tls { config: Caller { authorities, identity: None }.client()?, name })
}

fn is_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// A request with gaps: written once for each route, and filled in by copying.
#[derive(Debug, Clone)]
pub struct Form {
    head: Vec<u8>,
    middle: Vec<u8>,
}

impl Form {
    pub fn write_get(&self, out: &mut Vec<u8>, rest: impl FnOnce(&mut Vec<u8>)) {
        self.write_get_after(out, rest, None);
    }

    pub fn write_get_after(
        &self,
        out: &mut Vec<u8>,
        rest: impl FnOnce(&mut Vec<u8>),
        session: Option<&[u8]>,
    ) {
        out.extend_from_slice(&self.head);
        rest(out);
        out.extend_from_slice(&self.middle);
        if let Some(session) = session {
            out.extend_from_slice(b"picopay-session: ");
            out.extend_from_slice(session);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    pub fn write_post(&self, out: &mut Vec<u8>, idempotency_key: &[u8], body: &[u8]) {
        self.write_post_to(out, [b""; 3], idempotency_key, body);
    }

    /// Writes a request with a body; `rest` is what follows the form's path.
    pub fn write_post_to(&self, out: &mut Vec<u8>, rest: [&[u8]; 3], idempotency_key: &[u8], body: &[u8]) {
        out.extend_from_slice(&self.head);
        for part in rest {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.middle);
        if !idempotency_key.is_empty() {
            out.extend_from_slice(b"idempotency-key: ");
            out.extend_from_slice(idempotency_key);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"content-type: application/json\r\ncontent-length: ");
        write_number(out, u64::try_from(body.len()).expect("a length fits 64 bits"));
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }
}

pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("one digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, host, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080", ""),
            ("http://127.0.0.1:8080/v1/", "127.0.0.1:8080", "/v1"),
            ("http://[::1]:81", "[::1]:81", ""),
            ("http://127.0.0.1", "127.0.0.1", ""),
        ] {
            let target = Target::new(url, None).unwrap();
            assert_eq!((target.host.as_str(), target.path.as_str()), (host, path), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_an_example() {
        for url in
            ["", "ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://a b", "http://127.0.0.1:99999"]
        {
            let message = format!("{:#}", Target::new(url, Some("k")).unwrap_err());
            assert!(message.contains("--url"), "{message}");
        }
    }

    #[test]
    fn the_demo_key_is_shown_to_this_machine_only() {
        assert_eq!(Target::new("http://127.0.0.1:8080", None).unwrap().api_key, "dev-key");
        let message = Target::new("http://192.0.2.1:8080", None).unwrap_err().to_string();
        assert!(message.contains("--api-key"), "{message}");
        assert!(Target::new("http://127.0.0.1:8080", Some("two\r\nlines")).is_err());
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
