//! The whole public API as one table.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use picopay_gateway_config::Scope;
use picopay_shared::running_config::CONFIG_PATH;

use crate::charge::CHARGE;
use crate::front_door::FrontDoor;
use crate::guarded::Guarded;
use crate::hold::HOLD;
use crate::hold::capture::{self, CAPTURE};
use crate::hold::void::{self, VOID};
use crate::problem::Problem;
use crate::refund::REFUND;
use crate::state::GatewayState;
use crate::topup::TOP_UP;
use crate::{
    balance, batch, charge, docs, health, hold, holds, openapi, problem_pages, refund, running_config, sums,
    topup, totals, transactions, transfer, transfers, users,
};

use self::Route::{EachItsScope, OneOf, WithoutKey};

#[derive(Debug, Clone)]
enum Route {
    /// Keys with one of these scopes.
    OneOf(&'static [Scope], MethodRouter<Guarded>),
    /// Every key: each operation in it needs its own scope.
    EachItsScope(MethodRouter<Guarded>),
    /// Everybody: it takes no key.
    WithoutKey(MethodRouter<Arc<GatewayState>>),
}

/// The routes: path, scopes, handler. Each is under `/v1` and, because existing clients call `POST /charge`,
/// at the root.
#[rustfmt::skip] // One line per route, so that the table reads as one.
fn table() -> [(&'static str, Route); 24] {
    [
        ("/users",                   OneOf(&Scope::MOVING,    post(users::post_users))),
        ("/topup",                   OneOf(TOP_UP.scopes,     post(topup::post_topup))),
        ("/charge",                  OneOf(CHARGE.scopes,     post(charge::post_charge))),
        ("/refund",                  OneOf(REFUND.scopes,     post(refund::post_refund))),
        ("/holds",                   OneOf(HOLD.scopes,       post(hold::post_hold))),
        ("/holds",                   OneOf(&[Scope::Read],    get(holds::get_holds))),
        ("/holds/{id}",              OneOf(&[Scope::Read],    get(holds::get_hold))),
        ("/holds/{id}/capture",      OneOf(CAPTURE.scopes,    post(capture::post_capture))),
        ("/holds/{id}/void",         OneOf(VOID.scopes,       post(void::post_void))),
        ("/transfers",               OneOf(&[Scope::Transfer], post(transfer::post_transfer))),
        ("/transfers/{id}",          OneOf(&[Scope::Read],    get(transfers::get_transfer))),
        ("/batch",                   EachItsScope(            post(batch::post_batch))),
        ("/users/{user_id}/balance", OneOf(&[Scope::Read],    get(balance::get_balance))),
        ("/transactions",            OneOf(&[Scope::Read],    get(transactions::get_transactions))),
        ("/transactions/{id}",       OneOf(&[Scope::Read],    get(transactions::get_transaction))),
        ("/sums",                    OneOf(&[Scope::Read],    post(sums::post_sums))),
        ("/totals",                  OneOf(&[Scope::Admin],   get(totals::get_totals))),
        ("/health",                  WithoutKey(get(health::get_health))),
        ("/readyz",                  WithoutKey(get(health::get_readyz))),
        ("/metrics",                 WithoutKey(get(health::get_metrics))),
        ("/openapi.json",            WithoutKey(get(openapi::get_openapi))),
        ("/docs",                    WithoutKey(get(docs::get_docs))),
        ("/docs/{file}",             WithoutKey(get(docs::get_docs_file))),
        ("/problems/{suffix}",       WithoutKey(get(problem_pages::get_problem_page))),
    ]
}

pub fn router(gateway: &Arc<GatewayState>) -> FrontDoor {
    let mut router = Router::new();
    // With an admin address, operators ask there.
    let has_admin = gateway.config.admin.is_some();
    for (path, route) in table().into_iter().filter(|(path, _)| !(has_admin && *path == "/metrics")) {
        let methods = match route {
            OneOf(scopes, methods) => methods.with_state(Guarded::new(Arc::clone(gateway), scopes)),
            EachItsScope(methods) => methods.with_state(Guarded::new(Arc::clone(gateway), &[])),
            WithoutKey(methods) => methods,
        };
        router = router.route(path, methods.clone()).route(&format!("/v1{path}"), methods);
    }
    if !has_admin {
        // For operators of this cluster; not part of the API.
        router = router.route(CONFIG_PATH, get(running_config::get_config));
    }
    let router = router
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(Arc::clone(gateway));
    FrontDoor::new(Arc::clone(gateway), router)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route_name::RouteName;

    #[test]
    fn every_route_has_a_name_in_metrics_and_access_lines() {
        for (path, _) in table() {
            assert_eq!(RouteName::of(path).as_str(), path);
        }
    }
}
