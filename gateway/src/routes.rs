//! The whole public API as one table, and what every request passes below it.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use picopay_shared::running_config::CONFIG_PATH;

use crate::front_door::FrontDoor;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::{
    balance, charge, docs, health, openapi, problem_pages, refund, running_config, topup, transactions, users,
};

/// The routes, each under `/v1` and, because existing clients call `POST /charge`, at the root.
#[rustfmt::skip] // One line per route, so that the table reads as one.
fn table() -> [(&'static str, MethodRouter<Arc<Gateway>>); 14] {
    [
        ("/users",                   post(users::post_users)),
        ("/topup",                   post(topup::post_topup)),
        ("/charge",                  post(charge::post_charge)),
        ("/refund",                  post(refund::post_refund)),
        ("/users/{user_id}/balance", get(balance::get_balance)),
        ("/transactions",            get(transactions::get_transactions)),
        ("/transactions/{id}",       get(transactions::get_transaction)),
        // Below here no key is needed.
        ("/health",                  get(health::get_health)),
        ("/readyz",                  get(health::get_readyz)),
        ("/metrics",                 get(health::get_metrics)),
        ("/openapi.json",            get(openapi::get_openapi)),
        ("/docs",                    get(docs::get_docs)),
        ("/docs/{file}",             get(docs::get_docs_file)),
        ("/problems/{suffix}",       get(problem_pages::get_problem_page)),
    ]
}

/// Everything that the gateway serves, behind its front door.
pub fn router(gateway: &Arc<Gateway>) -> FrontDoor {
    let mut router = Router::new();
    for (path, methods) in table() {
        router = router.route(path, methods.clone()).route(&format!("/v1{path}"), methods);
    }
    let router = router
        // For operators of this very cluster, see there. No part of the API.
        .route(CONFIG_PATH, get(running_config::get_config))
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::clone(gateway));
    FrontDoor::new(Arc::clone(gateway), router)
}
