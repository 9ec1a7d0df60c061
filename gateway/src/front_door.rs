//! What every request passes on its way in and every answer on its way out: the request's id, problems written down, and
//! panics turned into answers.
//!
//! One function around the router, rather than a layer for each concern: it is on the path of every charge, and each
//! layer of a router costs several allocations.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::Service;
use tracing::error;

use crate::gateway::Gateway;
use crate::metrics::Open;
use crate::problem::{Code, Problem};
use crate::request_id::{RequestId, X_REQUEST_ID};

/// The router and what is around it.
#[derive(Debug, Clone)]
pub struct FrontDoor {
    gateway: Arc<Gateway>,
    router: Router,
}

impl FrontDoor {
    /// Puts itself around a router.
    pub fn new(gateway: Arc<Gateway>, router: Router) -> Self {
        Self { gateway, router }
    }

    /// Answers one request. There is always an answer.
    pub async fn answer(&mut self, mut request: Request<Body>) -> Response {
        let _open = Open::count(&self.gateway.metrics.clients.requests);
        let id = RequestId::take_or_make(request.headers());
        request.extensions_mut().insert(id.clone());
        let answering = AssertUnwindSafe(self.router.call(request)).catch_unwind();
        let mut response = match answering.await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            // The panic's message and place are in the log already, by the panic hook.
            Err(_panic) => Problem::internal().into_response(),
        };
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            response = self.write_down(problem, &id, response);
        }
        response.headers_mut().insert(X_REQUEST_ID.clone(), id.to_header());
        response
    }

    fn write_down(&self, problem: Problem, id: &RequestId, mut bare: Response) -> Response {
        if problem.code() == Code::Internal {
            error!(request_id = id.as_str(), "a request failed for a reason of our own");
        }
        let mut response = problem.into_response_to(id.as_str(), &self.gateway.config.public_url);
        // The one thing that only the router knows. Its other headers are of the empty answer that it saw.
        if let Some(methods) = bare.headers_mut().remove(header::ALLOW) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::routing::get;
    use picopay_shared::cluster::Cluster;

    use super::*;
    use crate::config::GatewayConfig;

    fn gateway() -> Arc<Gateway> {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, config) = (folder.path().join("cluster.toml"), folder.path().join("gateway.toml"));
        let shard = "[[shards]]\nname = \"s\"\nnodes = [\"http://127.0.0.1:1\"]\nprimary = \"host=none\"\n";
        std::fs::write(&cluster, format!("internal_secret = \"an-internal-secret-for-this-test\"\n{shard}"))
            .unwrap();
        let key =
            format!("[[keys]]\nname = \"k\"\ndigest = \"sha256:{}\"\nscopes = [\"read\"]\n", "00".repeat(32));
        std::fs::write(&config, key).unwrap();
        Gateway::start(&Cluster::load(&cluster).unwrap(), GatewayConfig::load(&config).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing_of_its_reason() {
        let gateway = gateway();
        let broken = async || -> Response { panic!("SELECT secret FROM /etc/passwd") };
        let router = Router::new().route("/", get(broken)).with_state(Arc::clone(&gateway));
        let request = Request::get("/").header("x-request-id", "mine").body(Body::empty()).unwrap();
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
