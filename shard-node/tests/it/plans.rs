//! A transaction is found by its id among its user's thousands, not by reading all of them.

use picopay_local::ClusterSpec;

use crate::test_shard::TestShard;

/// Five transactions of each of four thousand users: as for any ledger, the planner believes that slot and user are
/// independent, and that a user in a slot has less than one row.
const FILL: &str = "
    INSERT INTO users (slot, user_id, tag) SELECT n % 4096, n, n FROM generate_series(1, 4000) n;
    INSERT INTO transactions
        (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
    SELECT n % 4096, n, gen_random_uuid(), gen_random_uuid(), uuid_send(gen_random_uuid()), now(), 1, 1, 'charge', 'USD'
    FROM generate_series(1, 4000) n, generate_series(1, 5);
    ANALYZE";

#[tokio::test]
async fn a_transaction_is_found_by_its_id_and_not_by_its_user() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute(FILL).await.unwrap();
    // What the foreign key of a refund asks, and what the node asks for refunds and lookups.
    let foreign_key =
        "SELECT 1 FROM ONLY transactions x WHERE slot = $1 AND user_id = $2 AND id = $3 FOR KEY SHARE OF x";
    let asked = [
        (foreign_key, "(smallint, bigint, uuid)", "(1, 1, gen_random_uuid())"),
        (
            include_str!("../../src/sql/read_refunded.sql"),
            "(smallint[], integer[], uuid[])",
            "('{}', '{}', '{}')",
        ),
        (
            include_str!("../../src/sql/find_transaction.sql"),
            "(smallint, integer, uuid)",
            "(1, 1, gen_random_uuid())",
        ),
    ];
    for (text, types, values) in asked {
        let prepare = format!(
            "DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
             PREPARE asked {types} AS {text}"
        );
        superuser.batch_execute(&prepare).await.unwrap();
        let rows = superuser.query(&format!("EXPLAIN EXECUTE asked {values}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("transactions_pkey"), "{text}\n{plan}");
        assert!(!plan.contains("one_transaction_per_key"), "{text}\n{plan}");
    }
    shard.stop().await;
}
