//! One HTTP request at a time.
//!
//! Every call opens a connection, so that a test never sees the state of a pool.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use picopay_tls::{Caller, Stream};
use tokio::net::TcpStream;

/// Longer than any deadline inside the cluster, so that the cluster's own answer arrives.
const CALL_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

#[derive(Debug)]
pub struct CallError(String);

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for CallError {}

impl CallError {
    fn because(error: &(impl std::error::Error + ?Sized)) -> Self {
        Self(error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
    }
}

/// For `https`: what [`call_as`] said last, as a cluster over TLS does when it is started.
static CALLER: Mutex<Option<Caller>> = Mutex::new(None);

/// What this process shows and believes from now on.
pub fn call_as(caller: Caller) {
    *CALLER.lock().unwrap_or_else(PoisonError::into_inner) = Some(caller);
}

pub(crate) async fn over_tls(name: &str, stream: TcpStream) -> io::Result<Stream> {
    let caller = CALLER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let caller = caller.ok_or_else(|| io::Error::other("nobody said whom to believe over TLS"))?;
    caller.shake_hands(name, stream, CALL_WAIT).await
}

pub async fn get(url: &str) -> Result<Answer, CallError> {
    call(Method::GET, url, &[], "").await
}

pub async fn call(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, CallError> {
    let asked = tokio::time::timeout(CALL_WAIT, call_at_once(method, url, headers, body)).await;
    asked.unwrap_or_else(|_| Err(CallError(format!("no answer from {url} in {} s", CALL_WAIT.as_secs()))))
}

async fn call_at_once(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, CallError> {
    let uri: Uri = url.parse().map_err(|error| CallError(format!("{url}: {error}")))?;
    let authority = uri.authority().ok_or_else(|| CallError(format!("{url} names no host")))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::builder().method(method).uri(path).header("host", authority.as_str());
    request = request.header("connection", "close");
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|error| CallError::because(&error))?;

    let is_tls = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let place = (authority.host().trim_matches(['[', ']']), port);
    let stream = TcpStream::connect(place).await.map_err(|error| CallError::because(&error))?;
    let stream = if is_tls {
        over_tls(place.0, stream).await.map_err(|error| CallError::because(&error))?
    } else {
        Stream::Plain(stream)
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| CallError::because(&error))?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    let answer = answer.await.map_err(|error| CallError::because(&error));
    driver.abort();
    answer
}
