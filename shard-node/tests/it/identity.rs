//! A node never serves a database that is not its shard.

use crate::test_shard::{TestShard, eventually, usd};

#[tokio::test]
async fn a_node_refuses_to_serve_another_shards_database() {
    let shard = TestShard::start().await;
    shard.user_with(usd("1")).await;
    let node = shard.cluster.shard(0).node(0);
    let database = shard.cluster.connect_primary(0).await.unwrap();
    database.execute("UPDATE shard_identity SET shard_name = 'shard-9'", &[]).await.unwrap();

    // Running, it notices within its next look; started again, it does not come up.
    eventually("the node's exit", || async { node.died() }).await;
    assert!(node.log_tail(20).contains("shard-9"), "{}", node.log_tail(20));
    let _ = node.start().await;
    let status = eventually("the second exit", || async { node.died() }).await;
    assert_eq!(status.code(), Some(1));

    database
        .execute("UPDATE shard_identity SET shard_name = 'shard-1', slot_count = 1024", &[])
        .await
        .unwrap();
    let _ = node.start().await;
    eventually("the third exit", || async { node.died() }).await;
    assert!(node.log_tail(5).contains("slot count 1024"), "{}", node.log_tail(5));
    shard.stop().await;
}
