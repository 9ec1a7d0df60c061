//! Rows are found by their keys, whatever the planner believes of the tables: nothing reads a whole table, nor all that a
//! user has for one transaction of it.

use picopay_local::ClusterSpec;
use picopay_shard_node::db::{READ_PLANS, WRITE_PLANS};
use tokio_postgres::Client;

use crate::test_shard::TestShard;

/// Five transactions of each of four thousand users. As for any ledger, the planner believes that slot and user are
/// independent, and that a user in a slot has less than one row.
const FILL: &str = "
    INSERT INTO users (slot, user_id, tag) SELECT n % 4096, n, n FROM generate_series(1, 4000) n;
    INSERT INTO transactions
        (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
    SELECT n % 4096, n, gen_random_uuid(), gen_random_uuid(), uuid_send(gen_random_uuid()), now(), 1, 1, 'charge', 'USD'
    FROM generate_series(1, 4000) n, generate_series(1, 5);
    INSERT INTO balances SELECT n % 4096, n, 'USD', 1 FROM generate_series(1, 4000) n;
    INSERT INTO holds SELECT slot, user_id, id, 'USD', 1, 0, 'open', now(), NULL FROM transactions;
    INSERT INTO transfers (slot, user_id, id, to_user_id, to_slot, currency, amount, next_try_at)
    SELECT slot, user_id, id, 1, 1, 'USD', 1, now() FROM transactions;
    INSERT INTO transfer_credits SELECT slot, user_id, id, 1, 'USD', 1, id, NULL, now() FROM transactions;
    ANALYZE";

const PAGES: &str = "(smallint[], bigint[], uuid[], uuid[], text[], bigint[], bigint[])";

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
            "(smallint[], bigint[], integer[], uuid[])",
            "('{}', '{}', '{}', '{}')",
        ),
        (
            include_str!("../../src/sql/find_one_transaction.sql"),
            "(smallint, bigint, integer, uuid)",
            "(1, 1, 1, gen_random_uuid())",
        ),
        (
            include_str!("../../src/sql/find_transactions.sql"),
            "(smallint[], bigint[], integer[], uuid[])",
            "('{1}', '{1}', '{1}', ARRAY[gen_random_uuid()])",
        ),
        (
            include_str!("../../src/sql/find_histories.sql"),
            PAGES,
            "('{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        ),
    ];
    for (text, types, values) in asked {
        let prepare = format!(
            "DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
             PREPARE asked {types} AS {text}"
        );
        superuser.batch_execute(&prepare).await.unwrap();
        let plan = explain(&superuser, &format!("EXECUTE asked {values}")).await;
        assert!(plan.contains("transactions_pkey"), "{text}\n{plan}");
        assert!(!plan.contains("one_transaction_per_key"), "{text}\n{plan}");
    }
    shard.stop().await;
}

/// As the planner does it by itself, with and without the values.
#[tokio::test]
async fn a_read_finds_owner_user_and_rows_by_their_keys() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute(FILL).await.unwrap();
    // With one user in a slot, as here, either index of `users` is as good.
    let asked = [
        (
            include_str!("../../src/sql/find_balances_of_one.sql"),
            "(smallint, bigint)",
            "(1, 1)".to_owned(),
            ["users_", "balances_pkey"],
        ),
        (
            include_str!("../../src/sql/find_one_transaction.sql"),
            "(smallint, bigint, integer, uuid)",
            "(1, 1, 1, gen_random_uuid())".to_owned(),
            ["users_by_tag", "transactions_pkey"],
        ),
    ]
    .into_iter();
    // However many are asked for at once.
    let of_many = [1, 16, 64].into_iter().flat_map(|count| {
        let many = |value: &str| format!("array_fill({value}, ARRAY[{count}])");
        let (slots, users) = (many("1::smallint"), many("1::bigint"));
        let (ids, tags) = (many("gen_random_uuid()"), many("1"));
        let (first, last) = (
            many("'00000000-0000-8000-8000-000000000000'::uuid"),
            many("'80000000-0000-0000-0000-000000000000'::uuid"),
        );
        let (kinds, rows, looks) = (many("NULL::text"), many("21::bigint"), many("1000::bigint"));
        [
            (
                include_str!("../../src/sql/find_balances.sql"),
                "(smallint[], bigint[])",
                format!("({slots}, {users})"),
                ["users_", "balances_pkey"],
            ),
            (
                include_str!("../../src/sql/find_histories.sql"),
                PAGES,
                format!("({slots}, {users}, {first}, {last}, {kinds}, {rows}, {looks})"),
                ["users_", "Index Scan Backward using transactions_pkey"],
            ),
            (
                include_str!("../../src/sql/find_transactions.sql"),
                "(smallint[], bigint[], integer[], uuid[])",
                format!("({slots}, {users}, {tags}, {ids})"),
                ["users_by_tag", "transactions_pkey"],
            ),
        ]
    });
    let asked: Vec<_> = asked.chain(of_many).collect();
    for mode in ["force_generic_plan", "force_custom_plan"] {
        for (text, types, values, indexes) in &asked {
            let prepare =
                format!("DEALLOCATE ALL; SET plan_cache_mode = {mode}; PREPARE asked {types} AS {text}");
            superuser.batch_execute(&prepare).await.unwrap();
            let plan = explain(&superuser, &format!("EXECUTE asked {values}")).await;
            for index in indexes.iter().chain(&["slot_owner_pkey"]) {
                assert!(plan.contains(index), "{index}: {text}\n{plan}");
            }
            assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{text}\n{plan}");
        }
    }
    shard.stop().await;
}

const OF_BATCHES: [(&str, &str); 16] = [
    (include_str!("../../src/sql/insert_users.sql"), "smallint[], bigint[], integer[], bigint[]"),
    (include_str!("../../src/sql/lock_users.sql"), "smallint[], bigint[]"),
    (include_str!("../../src/sql/read_balances.sql"), "smallint[], bigint[]"),
    (include_str!("../../src/sql/read_by_keys.sql"), "smallint[], bigint[], uuid[]"),
    (include_str!("../../src/sql/read_refunded.sql"), "smallint[], bigint[], integer[], uuid[]"),
    (include_str!("../../src/sql/read_refund_totals.sql"), "smallint[], bigint[], uuid[]"),
    (include_str!("../../src/sql/write_batch.sql"), WRITE_BATCH_TYPES),
    (include_str!("../../src/sql/write_one.sql"), WRITE_ONE_TYPES),
    (include_str!("../../src/sql/read_named_holds.sql"), "smallint[], bigint[], uuid[]"),
    (include_str!("../../src/sql/read_due_holds.sql"), "smallint[], bigint[], timestamptz"),
    (include_str!("../../src/sql/read_next_due.sql"), "smallint[], bigint[], timestamptz"),
    (include_str!("../../src/sql/end_holds.sql"), "smallint[], bigint[], uuid[], text[], numeric[], uuid[]"),
    (
        include_str!("../../src/sql/read_transfers.sql"),
        "smallint[], bigint[], uuid[], smallint[], bigint[], uuid[]",
    ),
    (include_str!("../../src/sql/read_credits.sql"), "smallint[], bigint[], uuid[]"),
    (
        include_str!("../../src/sql/end_transfers.sql"),
        "smallint[], bigint[], uuid[], text[], text[], timestamptz[]",
    ),
    (
        include_str!("../../src/sql/update_held_balances.sql"),
        "smallint[], bigint[], text[], numeric[], bigint[], numeric[], integer[], timestamptz[], numeric[]",
    ),
];
const WRITE_BATCH_TYPES: &str = "smallint[], bigint[], uuid[], uuid[], bytea[], timestamptz[], numeric[], numeric[], \
    text[], text[], text[], text[], uuid[], numeric[], text[], text[], text[], \
    smallint[], bigint[], text[], numeric[], numeric[], bigint[]";
const WRITE_ONE_TYPES: &str = "smallint, bigint, uuid, uuid, bytea, timestamptz, numeric, numeric, \
    text, text, text, text, uuid, numeric, text, text, text, numeric, numeric, bigint";
/// What is inside them has no EXPLAIN: the counters of the session show how tables were read.
const OPEN: &str =
    "SELECT picopay_open_batch_v2(1, '{1,2}', '{1,2}', '{1,2}'), picopay_open_one_v2(1, 1::smallint, 1)";

/// Sequential scans, and scans of indexes, of the tables that [`OPEN`] reads.
async fn scans(database: &Client) -> (i64, i64) {
    let counted = "SELECT sum(seq_scan)::bigint, sum(idx_scan)::bigint FROM pg_stat_xact_user_tables
                   WHERE relname IN ('users', 'balances', 'slot_owner')";
    let row = database.query_one(counted, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

const OF_READS: [(&str, &str); 8] = [
    (include_str!("../../src/sql/find_balances_of_one.sql"), "smallint, bigint"),
    (include_str!("../../src/sql/find_balances.sql"), "smallint[], bigint[]"),
    (
        include_str!("../../src/sql/find_histories.sql"),
        "smallint[], bigint[], uuid[], uuid[], text[], bigint[], bigint[]",
    ),
    (include_str!("../../src/sql/find_one_transaction.sql"), "smallint, bigint, integer, uuid"),
    (include_str!("../../src/sql/find_transactions.sql"), "smallint[], bigint[], integer[], uuid[]"),
    (include_str!("../../src/sql/find_holds.sql"), "smallint, bigint, uuid, text, bigint, bigint"),
    (include_str!("../../src/sql/find_hold.sql"), "smallint, bigint, uuid"),
    (include_str!("../../src/sql/find_transfer.sql"), "smallint, bigint, uuid"),
];

/// What a planner may have seen last. A plan that it made then is kept until it looks again, and by then there can be
/// millions of rows.
#[tokio::test]
async fn no_batch_and_no_read_takes_a_table_to_be_small() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let a_few = "INSERT INTO users SELECT n, n, n FROM generate_series(1, 20) n;
                 INSERT INTO balances SELECT n, n, 'USD', 1 FROM generate_series(1, 20) n;
                 ANALYZE";
    for seen in ["SELECT 'nothing yet'", "VACUUM ANALYZE", a_few, FILL] {
        superuser.batch_execute("TRUNCATE users, slot_owner CASCADE").await.unwrap();
        superuser.batch_execute(seen).await.unwrap();
        for (options, statements) in [(WRITE_PLANS, OF_BATCHES.as_slice()), (READ_PLANS, &OF_READS)] {
            let settings = options.replace("-c ", "; SET ");
            superuser.batch_execute(&format!("RESET ALL {settings}")).await.unwrap();
            superuser.batch_execute("BEGIN").await.unwrap();
            let before = scans(&superuser).await;
            superuser.batch_execute(OPEN).await.unwrap();
            let after = scans(&superuser).await;
            superuser.batch_execute("ROLLBACK").await.unwrap();
            assert_eq!(after.0, before.0, "{seen}");
            // Owners by one scan and by another, users and balances by one for each.
            assert!(after.1 >= before.1 + 6, "{seen}");
            for (text, types) in statements {
                let values = vec!["NULL"; types.split(',').count()].join(", ");
                let prepare = format!(
                    "DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan; PREPARE asked ({types}) AS {text}"
                );
                superuser.batch_execute(&prepare).await.unwrap();
                let plan = explain(&superuser, &format!("EXECUTE asked ({values})")).await;
                assert!(!plan.contains("Seq Scan"), "{seen}: {text}\n{plan}");
                let scans = plan.matches("Index Scan").count() + plan.matches("Index Only Scan").count();
                assert!(scans > 0, "{seen}: {text}\n{plan}");
                assert_eq!(plan.matches("Index Cond").count(), scans, "{seen}: {text}\n{plan}");
            }
        }
    }
    shard.stop().await;
}

/// A shard has some thousand times as many transactions as it has balances, and of what is not ended a handful.
#[tokio::test]
async fn totals_cost_by_the_number_of_balances_and_sums_by_that_of_what_is_added_up() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let limits = "PREPARE limits (text) AS ";
    let settings = READ_PLANS.replace("-c ", "; SET ");
    // As when all were pending at the last ANALYZE, and as when all but a few have ended.
    let ended = "UPDATE transfers SET state = 'completed', ended_at = now() WHERE user_id > 5; ANALYZE";
    for seen in [FILL, ended] {
        superuser.batch_execute(seen).await.unwrap();
        for (text, types, looked_up) in [
            (
                include_str!("../../src/sql/read_totals.sql"),
                "smallint[]",
                ["unfinished_transfers", "one_credit_per_transfer"],
            ),
            (
                include_str!("../../src/sql/read_sums.sql"),
                "smallint[], smallint[], bigint[], uuid, uuid, bigint",
                ["transactions_pkey", "slot_owner_pkey"],
            ),
        ] {
            let values = vec!["NULL"; types.split(',').count()].join(", ");
            let prepare = format!(
                "DEALLOCATE ALL{settings}; {limits} {}; PREPARE asked ({types}) AS {text}",
                include_str!("../../src/sql/begin_aggregate.sql")
            );
            superuser.batch_execute(&prepare).await.unwrap();
            superuser.batch_execute("BEGIN; EXECUTE limits ('1000')").await.unwrap();
            let plan = explain(&superuser, &format!("EXECUTE asked ({values})")).await;
            superuser.batch_execute("ROLLBACK").await.unwrap();
            for index in looked_up {
                assert!(plan.contains(index), "{index}\n{plan}");
            }
            for table in ["transactions", "transfers", "transfer_credits", "holds"] {
                assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{table}\n{plan}");
            }
            assert_eq!(plan.contains("on transactions"), text.contains("FROM transactions"), "{plan}");
        }
    }
    shard.stop().await;
}

/// What a table's largest target asks for is what ANALYZE reads, so a new column without one would bring all of it back.
#[tokio::test]
async fn an_analyze_of_what_grows_is_short() {
    let shard = TestShard::start_with(ClusterSpec::one_shard().without_redis()).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let columns = "SELECT attrelid::regclass || '.' || attname, attstattarget::int FROM pg_attribute
                   WHERE attrelid IN (SELECT conrelid FROM pg_constraint WHERE contype = 'f'
                                      UNION SELECT confrelid FROM pg_constraint WHERE contype = 'f')
                   AND attnum > 0 AND NOT attisdropped";
    let columns = superuser.query(columns, &[]).await.unwrap();
    assert!(
        columns.len() >= 70,
        "users, balances, transactions, refund_totals, holds, transfers and credits: {}",
        columns.len()
    );
    for column in columns {
        assert_eq!(column.get::<_, i32>(1), 10, "{}", column.get::<_, String>(0));
    }
    shard.stop().await;
}

async fn explain(database: &Client, statement: &str) -> String {
    let rows = database.query(&format!("EXPLAIN {statement}"), &[]).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}
