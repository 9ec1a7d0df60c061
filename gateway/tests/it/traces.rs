//! A request is the same one in all logs: its node hears its id and its trace context, of writes and of reads.

use http::Method;
use picopay_shared::origin::Origin;

use crate::api::payment;
use crate::gateway_process::{GatewayProcess, cluster_of};
use crate::scripted_node::ScriptedNode;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn the_node_hears_which_request_and_which_trace_a_write_and_a_read_are_of() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of(&node.url), "").await;
    let headers = [("x-request-id", "mine"), ("traceparent", TRACE)];
    let body = payment(1, "5", "USD").to_string();
    assert_eq!(gateway.api.call(Method::POST, "/charge", &headers, &body).await.status, 200);
    for path in
        ["/users/1/balance", "/transactions?user_id=1", "/transactions/019a9f3a-7a6b-892e-9356-4ab70000c001"]
    {
        gateway.api.call(Method::GET, path, &headers, "").await;
    }
    let origin = Origin { request_id: "mine".to_owned(), traceparent: Some(TRACE.to_owned()) };
    assert_eq!(node.seen()[0].attempts[0].command.origin, origin);
    let reads: Vec<Option<Origin>> = node.reads().into_iter().map(|read| read.origin).collect();
    assert_eq!(reads, vec![Some(origin); 3]);
    gateway.api.call(Method::GET, "/users/1/balance", &[("x-request-id", "other")], "").await;
    let told = node.reads().pop().unwrap().origin.unwrap();
    assert_eq!((told.request_id.as_str(), told.traceparent), ("other", None));
}
