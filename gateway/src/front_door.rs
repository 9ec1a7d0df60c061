//! What surrounds every handler: the request's id, checks of its head, problems, panics and unread bodies.
//!
//! One function around the router rather than a layer for each concern. It is on the path of every charge,
//! and each layer of a router costs several allocations.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Body as HttpBody;
use tower::Service;
use tracing::error;

use crate::access_log::RequestRecord;
use crate::header_names::X_REQUEST_ID;
use crate::metrics::Open;
use crate::problem::{Code, Problem};
use crate::request_id::RequestId;
use crate::route_name::RouteName;
use crate::state::GatewayState;
use crate::unread_body::{self, Rest, Returned};
use crate::{head, request_path};
use picopay_gateway_config::ServerConfig;

#[derive(Debug, Clone)]
pub struct FrontDoor {
    gateway: Arc<GatewayState>,
    router: Router,
    peer: Option<SocketAddr>,
}

impl FrontDoor {
    pub fn new(gateway: Arc<GatewayState>, router: Router) -> Self {
        Self { gateway, router, peer: None }
    }

    /// The same for the requests of one connection.
    #[must_use]
    pub fn of_peer(self, peer: SocketAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The limits in force now.
    pub fn server_config(&self) -> ServerConfig {
        self.gateway.live().server.clone()
    }

    pub async fn answer<B>(&mut self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { gateway, router, peer } = self;
        let _open = Open::count(&gateway.metrics.clients.requests);
        let id = RequestId::take_or_make(request.headers());
        let plain = request_path::plain(request.uri());
        let route = RouteName::of(plain.as_ref().unwrap_or(request.uri()).path());
        let access_log = gateway.live().access_log;
        let mut record =
            RequestRecord::begin(&gateway.metrics.requests, access_log, route, &request, (&id, *peer));
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(id.clone());
        // Such a client sends its body only when somebody begins to read.
        let waits_for_continue = parts.headers.contains_key(header::EXPECT);
        let (body, returned) = unread_body::lend(body);
        let mut response = record.keep(answer_from(router, plain, Request::from_parts(parts, body))).await;
        let problem = response.extensions_mut().remove::<Problem>();
        record.answered(&response, problem.as_ref());
        if let Some(problem) = problem {
            response = write_down(gateway, problem, &id, response);
        }
        record.written(&response);
        if let Some(body) = returned.filter(Returned::is_unread) {
            // A body that came too slowly was waited for long enough.
            let is_hopeless = waits_for_continue || response.status() == StatusCode::REQUEST_TIMEOUT;
            let limit = gateway.live().server.body_read_timeout;
            if is_hopeless || body.read_away(limit).await == Rest::ToCome {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if gateway.ending.has_begun() {
            // The client's next request goes elsewhere, and this connection does not have to be cut.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID.clone(), id.to_header());
        // Balances, histories and refusals are of this moment. Files of the documentation set their own.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

async fn answer_from(router: &mut Router, plain: Option<Uri>, mut request: Request<Body>) -> Response {
    if let Err(problem) = head::check(&request) {
        return problem.into_response();
    }
    if let Some(plain) = plain {
        *request.uri_mut() = plain;
    }
    match AssertUnwindSafe(router.call(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        // The panic hook has logged it already.
        Err(_panic) => Problem::internal().into_response(),
    }
}

fn write_down(gateway: &GatewayState, problem: Problem, id: &RequestId, mut bare: Response) -> Response {
    if problem.code() == Code::Internal {
        error!(request_id = id.as_str(), "a request failed for a reason of our own");
    }
    let mut response = problem.into_response_to(id.as_str(), &gateway.config.public_url);
    // Only the router knows this. Its other headers describe an empty answer.
    if let Some(methods) = bare.headers_mut().remove(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::routing::get;
    use picopay_shared::cluster::Cluster;

    use super::*;
    use picopay_gateway_config::GatewayConfig;

    fn gateway() -> Arc<GatewayState> {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, config) = (folder.path().join("cluster.toml"), folder.path().join("gateway.toml"));
        let shard = "[[shards]]\nname = \"s\"\nnodes = [\"http://127.0.0.1:1\"]\nprimary = \"host=none\"\n";
        std::fs::write(&cluster, format!("internal_secret = \"an-internal-secret-for-this-test\"\n{shard}"))
            .unwrap();
        let key =
            format!("[[keys]]\nname = \"k\"\ndigest = \"sha256:{}\"\nscopes = [\"read\"]\n", "00".repeat(32));
        std::fs::write(&config, key).unwrap();
        GatewayState::start(&Cluster::load(&cluster).unwrap(), GatewayConfig::load(&config).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing_of_its_reason() {
        let gateway = gateway();
        let broken = async || -> Response { panic!("SELECT secret FROM /etc/passwd") };
        let router = Router::new().route("/", get(broken)).with_state(Arc::clone(&gateway));
        let request =
            Request::get("/").header("host", "x").header("x-request-id", "mine").body(Body::empty()).unwrap();
        let response = FrontDoor::new(gateway, router).answer(request).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[&X_REQUEST_ID]),
            (500, &"mine".parse().unwrap())
        );
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["code"], &body["instance"]), (&"internal".into(), &"urn:request:mine".into()));
        assert!(!body.to_string().contains("SELECT"));
    }
}
