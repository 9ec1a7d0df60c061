//! Reads go together to a node that says that it takes them so, and one by one to any other.

use futures_util::future::join_all;
use picopay_local::eventually;
use picopay_shared::node_status::READS_TOGETHER;

use crate::gateway_process::{GatewayProcess, cluster_of_nodes};
use crate::scripted_node::ScriptedNode;

/// A gap in which all of a test's reads arrive, and polls that are soon over.
const GATEWAY: &str = "[shard_client]\nbatch_interval = \"100ms\"\npoll_interval = \"100ms\"\n";

async fn read(gateway: &GatewayProcess, count: usize) {
    let path = |user: usize| format!("/transactions?user_id={}", user + 1);
    let reads = (0..count).map(async |user| gateway.api.get(&path(user)).await.status);
    // The node knows nobody.
    assert!(join_all(reads).await.iter().all(|status| *status == 404));
}

#[tokio::test]
async fn a_node_that_takes_batches_gets_them_and_one_of_the_release_before_gets_single_reads() {
    let node = ScriptedNode::start(&[]).await;
    let gateway = GatewayProcess::start(&cluster_of_nodes(&[&node.url]), GATEWAY).await;
    read(&gateway, 10).await;
    assert_eq!((node.reads().len(), node.read_batches()), (10, vec![]));
    assert_eq!(node.reads_left_ms().len(), 10, "each by itself");

    node.speak(READS_TOGETHER);
    eventually("a batch", || async {
        read(&gateway, 1).await;
        (!node.read_batches().is_empty()).then_some(())
    })
    .await;
    let before = (node.reads().len(), node.read_batches().len(), node.reads_left_ms().len());
    read(&gateway, 30).await;
    let batches = node.read_batches().split_off(before.1);
    assert_eq!((node.reads().len() - before.0, batches.iter().sum()), (30, 30));
    assert!(batches.len() <= 5, "{batches:?}");
    let mut asked: Vec<i64> =
        node.reads().split_off(before.0).iter().map(|read| user_of(&read.query)).collect();
    asked.sort_unstable();
    assert_eq!(asked, (1..=30).collect::<Vec<i64>>());

    // Its process was replaced since it said so.
    node.know_no_batches();
    read(&gateway, 10).await;
    assert_eq!(node.reads_left_ms().len() - before.2, 10);
}

fn user_of(query: &picopay_shared::query::Query) -> i64 {
    match query {
        picopay_shared::query::Query::History(history) => history.user_id.get(),
        other => panic!("{other:?}"),
    }
}
