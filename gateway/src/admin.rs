//! The admin address: what operators and Prometheus ask for, apart from what clients reach.
//!
//! For a network of one's own. It has none of the limits that the public address has on slow clients.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use picopay_shared::ending::Stage;
use picopay_shared::running_config::CONFIG_PATH;
use tokio::net::TcpListener;

use crate::front_door::FrontDoor;
use crate::problem::Problem;
use crate::state::GatewayState;
use crate::{health, running_config};

/// The routes of the admin address.
pub fn router(gateway: &Arc<GatewayState>) -> FrontDoor {
    let router = Router::new()
        .route("/health", get(health::get_health))
        .route("/readyz", get(health::get_readyz))
        .route("/metrics", get(health::get_metrics))
        .route(CONFIG_PATH, get(running_config::get_config))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::clone(gateway));
    FrontDoor::new(Arc::clone(gateway), router)
}

/// Serves it until the gateway has drained.
///
/// # Errors
/// When the address cannot be used any more.
pub async fn serve(listener: TcpListener, gateway: &Arc<GatewayState>) -> io::Result<()> {
    let front_door = router(gateway);
    let answer = move |request: Request| {
        let mut front_door = front_door.clone();
        async move { front_door.answer(request).await }
    };
    let ending = gateway.ending.clone();
    axum::serve(listener, Router::new().fallback(answer))
        .with_graceful_shutdown(async move { ending.reached(Stage::Finishing).await })
        .await
}
