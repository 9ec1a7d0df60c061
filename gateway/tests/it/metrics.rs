//! What the gateway counts.

use picopay_local::{ClusterSpec, LocalCluster};
use uuid::Uuid;

use crate::api::{Api, payment};

#[tokio::test]
async fn every_charge_is_counted_once_by_how_it_ended() {
    let cluster = LocalCluster::start(ClusterSpec::one_shard()).await.unwrap();
    let api = Api::new(cluster.gateway_url(), cluster.api_key());
    let user = api.user_with("10", "USD").await;
    let (booked, refused) = (Uuid::new_v4(), Uuid::new_v4());
    for _ in 0..3 {
        api.post_with("/charge", booked, &payment(user, "1", "USD")).await;
        api.post_with("/v1/charge", refused, &payment(user, "100", "USD")).await;
    }
    api.post("/charge", "{").await;
    api.with_key("").post("/charge", "{}").await;
    api.pay("/charge", 77_777_777, "1", "USD").await;
    api.get("/charge").await;
    api.pay("/topup", user, "1", "USD").await;
    let text = api.get("/metrics").await.body;
    for (status, count) in [("success", 1), ("insufficient_balance", 1), ("idempotent_hit", 4), ("failed", 3)]
    {
        let line = format!("charge_requests_total{{status=\"{status}\"}} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(text.contains("charge_request_latency_seconds_count 9\n"), "{text}");
    for start in [
        "picopay_gateway_shard_requests_total{operation=\"write\",result=\"answered\",shard=\"shard-1\"} ",
        "picopay_gateway_batch_size_count{shard=\"shard-1\"} ",
        "picopay_gateway_commit_seconds_count{shard=\"shard-1\"} ",
        "picopay_gateway_queue_length{shard=\"shard-1\"} 0",
        "picopay_gateway_breaker_state{shard=\"shard-1\"} 0",
        "picopay_gateway_cache_hits_total{shard=\"shard-1\"} ",
        "picopay_gateway_moved_total{shard=\"shard-1\"} 0",
        "picopay_gateway_queue_fullness{shard=\"shard-1\"} 0",
        "picopay_gateway_slots_unowned 0",
        "picopay_gateway_held 0",
        "picopay_gateway_held_total 0",
        "picopay_gateway_held_given_up_total 0",
        "picopay_gateway_held_refused_total 0",
        "picopay_gateway_replica_lag_seconds{shard=\"shard-1\"} ",
        "process_open_fds ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(start)), "{start} in {text}");
    }
    cluster.stop().await;
}
