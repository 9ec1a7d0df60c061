//! One request, one answer: no retries, no types. For callers that need the bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use picopay_tls::{Connector, refused_certificate};
use uuid::Uuid;

use crate::tls::Tls;

/// Comes with a write's answer; a read that shows it sees that write.
const SESSION: &str = "picopay-session";

/// For the TCP connection, and again for the handshake: less than for an attempt, so that "not sent" is told as that.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// HTTP or HTTPS to one gateway. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Exchange {
    url: Arc<str>,
    api_key: Arc<str>,
    http: Client<Connector, Full<Bytes>>,
    wait: Duration,
}

/// An answer with any status.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status, for example 200.
    pub status: u16,
    /// All headers of the answer.
    pub headers: HeaderMap,
    /// The whole body, unparsed.
    pub body: Bytes,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// There was no connection: nothing happened.
    #[error("there is no connection to the gateway: {0}")]
    NotSent(String),
    /// The request may have arrived.
    #[error("the connection was lost: {0}")]
    Broken(String),
    /// The request may have arrived.
    #[error("no answer in {} s", .0.as_secs_f64())]
    TimedOut(Duration),
}

/// A URL or an API key that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTarget(String);

impl Exchange {
    /// Exchanges with a gateway at `url`, such as `http://127.0.0.1:8080`. Connections are kept for the next
    /// request. For `https` the authorities count that the system trusts.
    ///
    /// # Errors
    /// A URL or key that cannot be sent, or a system without authorities.
    pub fn new(url: &str, api_key: &str) -> Result<Self, BadTarget> {
        Self::with_tls(url, api_key, &Tls::default())
    }

    /// The same, with authorities or a certificate of one's own for `https`. An empty key is not sent: the subject of the
    /// certificate can stand for one.
    ///
    /// # Errors
    /// The same, and a file that cannot be used.
    pub fn with_tls(url: &str, api_key: &str, tls: &Tls) -> Result<Self, BadTarget> {
        Self::of(url, api_key, tls, usize::MAX)
    }

    /// A new connection for each request, so that no pool hides a failure.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn without_pool(url: &str, api_key: &str) -> Result<Self, BadTarget> {
        Self::of(url, api_key, &Tls::default(), 0)
    }

    fn of(url: &str, api_key: &str, tls: &Tls, idle_max: usize) -> Result<Self, BadTarget> {
        let uri: http::Uri = url.parse().map_err(|error| BadTarget(format!("{url}: {error}")))?;
        let is_https = uri.scheme_str() == Some("https");
        if !(is_https || uri.scheme_str() == Some("http")) || uri.authority().is_none() {
            return Err(BadTarget(format!("{url} is no http://host:port and no https://host:port")));
        }
        let unfit = |fault: picopay_tls::Fault| BadTarget(fault.to_string());
        let caller = if is_https { Some(tls.read().map_err(unfit)?) } else { None };
        let connector = Connector::to_gateways(caller.as_ref(), CONNECT_WAIT).map_err(unfit)?;
        let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(idle_max).build(connector);
        let exchange = Self {
            url: url.trim_end_matches('/').into(),
            api_key: "".into(),
            http,
            wait: Duration::from_secs(20),
        };
        exchange.with_api_key(api_key)
    }

    /// The same connections for another API key.
    ///
    /// # Errors
    /// A key that no header can have.
    pub fn with_api_key(&self, api_key: &str) -> Result<Self, BadTarget> {
        if http::HeaderValue::from_str(api_key).is_err() {
            // Never the key itself.
            return Err(BadTarget("the API key has a character that no header can have".to_owned()));
        }
        Ok(Self { api_key: api_key.into(), ..self.clone() })
    }

    /// Sets how long to wait for an answer. The default is 20 s, longer than any gateway takes.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// The gateway's base URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a write. Without a key the gateway makes one.
    pub async fn post(&self, path: &str, key: Option<Uuid>, body: impl Into<Bytes>) -> Result<Answer, Lost> {
        let mut request = self.request(Method::POST, path).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key.to_string());
        }
        self.send(request, body.into()).await
    }

    /// Reads, with the session token of a write if there is one.
    pub async fn get(&self, path: &str, session: Option<&str>) -> Result<Answer, Lost> {
        let mut request = self.request(Method::GET, path);
        if let Some(session) = session {
            request = request.header(SESSION, session);
        }
        self.send(request, Bytes::new()).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if self.api_key.is_empty() { request } else { request.header("x-api-key", &*self.api_key) }
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<Answer, Lost> {
        let request =
            request.body(Full::new(body)).map_err(|error| Lost::NotSent(format!("no request: {error}")))?;
        let exchange = async {
            let response =
                self.http.request(request).await.map_err(|error| match refused_certificate(&error) {
                    Some(reason) => Lost::NotSent(reason),
                    None if error.is_connect() => Lost::NotSent(root_cause(&error)),
                    None => Lost::Broken(with_causes(&error)),
                })?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| Lost::Broken(with_causes(&error)))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(self.wait, exchange).await.unwrap_or(Err(Lost::TimedOut(self.wait)))
    }
}

impl Answer {
    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether it replays an earlier answer to this key.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The session token of a write.
    pub fn session(&self) -> Option<&str> {
        self.header(SESSION)
    }

    /// The body as text, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What the connector said: it is one clear line already.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
impl Answer {
    pub(crate) fn of_test(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        Self { status, headers: headers.collect(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_no_request_can_be_sent_to_is_said_without_the_key() {
        for (url, key) in
            [("ftp://host", "k"), ("host:80", "k"), ("http://", "k"), ("https://host", "s3cret\n")]
        {
            let error = Exchange::new(url, key).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!(Exchange::new("http://host:80/", "k").unwrap().url(), "http://host:80");
    }
}
