//! One client, one user, one slow statement or one forged token costs itself, and nobody else.

use std::time::{Duration, Instant};

use picopay_local::ClusterSpec;
use picopay_shared::command::{Kind, Outcome, Refusal, Status};
use picopay_shared::id::TransactionId;
use picopay_shared::query::{Answer, Consistency, Found, HistoryQuery, Query, Source};
use picopay_shared::session::{LogPosition, SessionToken};
use picopay_shared::slot::UserId;
use tokio_postgres::Client;

use crate::test_shard::{
    TestShard, charge, command_with_key, decided, eventually, is_completed, refund, top_up, usd,
};

async fn others(shard: &TestShard, count: usize) -> Vec<UserId> {
    let mut others = Vec::new();
    for _ in 0..count {
        others.push(shard.user_with(usd("100")).await);
    }
    others
}

#[tokio::test]
async fn a_user_whom_somebody_holds_costs_the_others_of_his_batch_one_wait_and_then_none() {
    // One lane for all, and a wait that a busy machine does not come to by itself.
    let node = "[lanes]\ncount = 1\n[postgres]\nlock_timeout = \"3s\"\nstatement_timeout = \"8s\"\nflight_timeout = \"9s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let held = shard.user_with(usd("100")).await;
    let others = others(&shard, 15).await;
    let earlier = decided(&shard.node.run(charge(held, usd("1"))).await).0.id;
    let holder = shard.hold_user(held).await;
    for round in 0..4 {
        let mut commands =
            vec![charge(held, usd("1")), refund(earlier, Some("0.01")), top_up(held, usd("1"))];
        // However many of his there are, they cost one try.
        commands.extend((0..100).map(|_| charge(held, usd("1"))));
        let of_his = commands.len();
        commands.extend(others.iter().map(|user| charge(*user, usd("1"))));
        let began = Instant::now();
        let outcomes = shard.node.write(commands).await;
        let took = began.elapsed();
        for outcome in &outcomes[..of_his] {
            assert!(matches!(outcome, Outcome::Unavailable { .. }), "round {round}: {outcome:?}");
        }
        assert!(outcomes[of_his..].iter().all(is_completed), "round {round}: {outcomes:?}");
        // Until his rest is over, so that the next round tries him.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(took >= Duration::from_secs(3), round == 0, "round {round} took {took:?}");
    }
    assert!(shard.node.status().await.unwrap().is_ready);
    holder.batch_execute("ROLLBACK").await.unwrap();
    let wish = charge(held, usd("1"));
    eventually("him served again", || async {
        is_completed(&shard.node.run(wish.clone()).await).then_some(())
    })
    .await;
    assert_eq!(shard.node.balance(held).await, "98.00");
    assert_eq!(shard.node.balance(others[0]).await, "96.00");
    shard.stop().await;
}

#[tokio::test]
async fn a_statement_that_one_user_makes_slow_shuts_no_gate_and_fails_him_alone() {
    let node = "[lanes]\ncount = 1\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let slow = shard.user_with(usd("100")).await;
    let others = others(&shard, 7).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    // Far longer than any statement is given.
    let slowly = "PERFORM pg_sleep(30)";
    let sleepy = format!(
        "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN {slowly}; RETURN NEW; END $$;
         CREATE TRIGGER sleepy BEFORE INSERT ON transactions FOR EACH ROW
         WHEN (NEW.user_id = {}) EXECUTE FUNCTION sleepy()",
        slow.get()
    );
    superuser.batch_execute(&sleepy).await.unwrap();
    let closed = || {
        let log = std::fs::read_to_string(shard.cluster.shard(0).node(0).log_file()).unwrap();
        assert!(log.contains("writes go on"), "the log says when the gate opens: {log}");
        log.matches("writes are stopped").count()
    };
    let before = closed();
    let batch = async || {
        let mut commands: Vec<_> = others.iter().map(|user| charge(*user, usd("0.01"))).collect();
        commands.insert(3, charge(slow, usd("1")));
        let outcomes = shard.node.write(commands).await;
        assert!(matches!(outcomes[3], Outcome::Unavailable { .. }), "{outcomes:?}");
        outcomes.iter().filter(|outcome| is_completed(outcome)).count()
    };
    // On a busy machine a neighbour's statement may take longer than it is given beside a slow one.
    for _ in 0..2 {
        eventually("all neighbours served", || async { (batch().await == 7).then_some(()) }).await;
    }
    assert_eq!(closed(), before);
    superuser.batch_execute("DROP TRIGGER sleepy ON transactions").await.unwrap();
    eventually("him served again", || async {
        is_completed(&shard.node.run(charge(slow, usd("1"))).await).then_some(())
    })
    .await;
    assert_eq!(shard.node.balance(slow).await, "99.00");
    shard.stop().await;
}

#[tokio::test]
async fn a_refund_that_its_currency_does_not_have_is_found_out_without_a_second_run() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let charged = decided(&shard.node.run(charge(user, usd("10"))).await).0.id;
    let key = uuid::Uuid::new_v4();
    let too_fine = refund(charged, Some("1.005"));
    let before = shard.node.metric("picopay_node_repeated_batches_total").await;
    let outcomes =
        shard.node.write(vec![too_fine, charge(user, usd("1")), refund(charged, Some("0.001"))]).await;
    assert!(matches!(outcomes[0], Outcome::AmountInvalid { .. }), "{outcomes:?}");
    assert!(
        is_completed(&outcomes[1]) && matches!(outcomes[2], Outcome::AmountInvalid { .. }),
        "{outcomes:?}"
    );
    let repeated = shard.node.metric("picopay_node_repeated_batches_total").await - before;
    assert!(repeated.abs() < f64::EPSILON, "{repeated}");
    let first = shard.node.run(command_with_key(key, charge(user, usd("2")).operation)).await;
    assert!(is_completed(&first));
    let reused = shard.node.run(command_with_key(key, refund(charged, Some("1.005")).operation)).await;
    assert!(matches!(reused, Outcome::KeyReused { .. }), "{reused:?}");
    shard.stop().await;
}

/// How many rows the statement's scans give, in all, for these parameters.
async fn rows_read(database: &Client, sql: &str, types: &str, values: &str) -> u64 {
    fn add(plan: &serde_json::Value) -> u64 {
        let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
        let node = plan["Node Type"].as_str().unwrap_or_default();
        let own = if node.contains("Scan") && plan["Relation Name"].is_string() {
            (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops")
        } else {
            0.0
        };
        let below = plan["Plans"].as_array().map_or(0, |plans| plans.iter().map(add).sum());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
        let own = own as u64;
        own + below
    }
    let prepare = format!("DEALLOCATE ALL; PREPARE asked ({types}) AS {sql}");
    database.batch_execute(&prepare).await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({values})");
    let row = database.query_one(&explain, &[]).await.unwrap();
    add(&row.get::<_, serde_json::Value>(0)[0]["Plan"])
}

#[tokio::test]
async fn a_charge_is_found_whoever_else_was_made_to_share_its_users_tag() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let twins = format!(
        "INSERT INTO users (slot, user_id, tag)
         SELECT slot, 5000000000 + n, tag FROM users, generate_series(1, 20000) n WHERE user_id = {}",
        user.get()
    );
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute(&twins).await.unwrap();
    superuser.batch_execute("ANALYZE users").await.unwrap();
    let charged = decided(&shard.node.run(charge(user, usd("10"))).await).0.id;
    assert_eq!(charged.user(), Some(user));
    // One of an earlier release: of this user, and of nobody by its last bits.
    let old = TransactionId::from_uuid(uuid::Uuid::from_u128(charged.as_uuid().as_u128() ^ 0xffff));
    let as_if_old = format!(
        "INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind,
                                   currency)
         SELECT slot, user_id, '{}', gen_random_uuid(), fingerprint, created_at, amount, balance_after, kind, currency
         FROM transactions WHERE id = '{}'",
        old.as_uuid(),
        charged.as_uuid()
    );
    superuser.batch_execute(&as_if_old).await.unwrap();
    let nobodys = uuid::Uuid::from_u128(charged.as_uuid().as_u128() ^ (0xff << 22));
    for (id, rows_max) in [(charged.as_uuid(), 4), (old.as_uuid(), 64), (nobodys, 64)] {
        let id = TransactionId::from_uuid(id);
        let named = id.user().map_or("NULL".to_owned(), |user| user.get().to_string());
        let (slot, tag) = (id.slot().get(), id.tag().get());
        for (sql, types, values) in [
            (
                include_str!("../../src/sql/find_one_transaction.sql"),
                "smallint, bigint, integer, uuid",
                format!("{slot}, {named}, {tag}, '{}'", id.as_uuid()),
            ),
            (
                include_str!("../../src/sql/read_refunded.sql"),
                "smallint[], bigint[], integer[], uuid[]",
                format!("'{{{slot}}}', '{{{named}}}', '{{{tag}}}', '{{{}}}'", id.as_uuid()),
            ),
        ] {
            let rows = rows_read(&superuser, sql, types, &values).await;
            assert!(rows <= rows_max, "{rows} rows for {id}: {sql}");
        }
    }
    assert!(is_completed(&shard.node.run(refund(charged, Some("1"))).await));
    let found = shard.node.read(Query::Lookup { id: charged }).await.found;
    assert!(matches!(found, Found::Transaction(_)), "{found:?}");
    shard.stop().await;
}

async fn page(
    shard: &TestShard,
    user_id: UserId,
    kind: Option<Kind>,
    before: Option<TransactionId>,
) -> Answer {
    let query = HistoryQuery {
        user_id,
        limit: 20,
        before,
        kind,
        from_ms: None,
        to_ms: None,
        takes_short_pages: true,
    };
    shard.node.read(Query::History(query)).await
}

async fn all_pages(shard: &TestShard, user: UserId, kind: Option<Kind>) -> (usize, usize) {
    let (mut seen, mut pages, mut before) = (0, 0, None);
    loop {
        let Found::History { transactions, goes_on_before, .. } = page(shard, user, kind, before).await.found
        else {
            panic!("no history")
        };
        (seen, pages) = (seen + transactions.len(), pages + 1);
        match goes_on_before {
            Some(_) => before = goes_on_before,
            None => return (seen, pages),
        }
    }
}

#[tokio::test]
async fn no_history_takes_more_than_a_bounded_look_whatever_is_in_it() {
    // What is shown here is no matter of time.
    let node = "[reads]\nreplica_timeout = \"10s\"\nreplica_lag_max = \"1m\"\nheartbeat_every = \"2s\"\n\
                [postgres]\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let (refused, charged) = (shard.user_with(usd("100")).await, shard.user_with(usd("100")).await);
    // Two more top-ups above and below a hundred thousand of what is not asked for.
    let fill = |user: UserId, first: u128, refusal: &str| {
        format!(
            "SET session_replication_role = replica;
             INSERT INTO transactions (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after,
                                       kind, currency, refusal, request_id)
             SELECT {}, {}, (substr('{}', 1, 24) || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(),
                    decode(repeat('00', 16), 'hex'), now(), 1, 0, 'charge', 'USD', {refusal}
             FROM generate_series(1, 100000) n",
            user.slot().get(),
            user.get(),
            uuid::Uuid::from_u128(first),
        )
    };
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let later = TransactionId::first_at(4_000_000_000_000);
    let refusals = fill(refused, later.of_refusal().as_uuid().as_u128(), "'insufficient-balance', 'r'");
    superuser.batch_execute(&refusals).await.unwrap();
    let old =
        fill(refused, later.as_uuid().as_u128(), "'insufficient-balance', 'r'").replace("100000", "5000");
    superuser.batch_execute(&old).await.unwrap();
    superuser.batch_execute(&fill(charged, later.as_uuid().as_u128(), "NULL, NULL")).await.unwrap();
    for _ in 0..2 {
        assert!(is_completed(&shard.node.run(top_up(charged, usd("1"))).await));
    }
    let at_replica = async || {
        let answer = page(&shard, charged, None, None).await;
        (matches!(answer.source, Source::Replica { .. })
            && matches!(&answer.found, Found::History { transactions, .. } if transactions.len() == 20))
        .then_some(())
    };
    eventually("the rows at the replica", at_replica).await;
    let passed_over = async || shard.node.metric("picopay_node_replicas_passed_over_total").await;
    let before = passed_over().await;

    // His top-ups are 100,000 charges further down, as many looks as it takes, and none is lost.
    let (seen, pages) = all_pages(&shard, charged, Some(Kind::TopUp)).await;
    assert_eq!(seen, 3);
    assert!((100..=102).contains(&pages), "{pages} pages");
    let (seen, pages) = all_pages(&shard, refused, None).await;
    assert_eq!(seen, 1);
    assert!(
        (5..=7).contains(&pages),
        "{pages} pages: new refusals are out of the way, old ones are passed by"
    );
    let sql = include_str!("../../src/sql/find_histories.sql");
    for (user, kind) in [(charged, "'topup'"), (charged, "NULL"), (refused, "NULL"), (refused, "'charge'")] {
        let values = format!(
            "ARRAY[{}], ARRAY[{}], '{{{}}}', '{{{}}}', ARRAY[{kind}], '{{21}}', '{{1000}}'",
            user.slot().get(),
            user.get(),
            TransactionId::first_at(0).as_uuid(),
            TransactionId::first_refusal().as_uuid()
        );
        let types = "smallint[], bigint[], uuid[], uuid[], text[], bigint[], bigint[]";
        let rows = rows_read(&superuser, sql, types, &values).await;
        assert!(rows <= 2_100, "{rows} rows for {kind}");
    }
    assert!((passed_over().await - before).abs() < f64::EPSILON, "the replica is as good as before");
    shard.stop().await;
}

#[tokio::test]
async fn a_refusal_has_an_id_of_its_own_kind_and_is_found_by_nobody() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("1")).await;
    let wish = charge(user, usd("5"));
    let first = shard.node.run(wish.clone()).await;
    let refused = decided(&first).0.clone();
    assert!(matches!(refused.status, Status::Refused { refusal: Refusal::InsufficientBalance, .. }));
    assert!(refused.id >= TransactionId::first_refusal());
    assert_eq!(shard.node.run(refund(refused.id, None)).await, Outcome::TransactionNotFound);
    assert_eq!(shard.node.read(Query::Lookup { id: refused.id }).await.found, Found::TransactionNotFound);
    let again = shard.node.run(wish).await;
    assert_eq!(decided(&again), (&refused, true));
    let created =
        "SELECT abs(extract(epoch FROM now() - created_at)) < 60 FROM transactions WHERE refusal IS NOT NULL";
    let database = shard.cluster.connect_primary(0).await.unwrap();
    assert!(database.query_one(created, &[]).await.unwrap().get::<_, bool>(0));
    shard.stop().await;
}

#[tokio::test]
async fn one_slow_read_is_cancelled_at_the_server_and_says_nothing_of_the_replica() {
    // One that is condemned stays so until the next look; and no server ends a statement by itself in the time of this test.
    let node = "[reads]\nreplica_lag_max = \"1m\"\nheartbeat_every = \"5s\"\n\
                [postgres]\nstatement_timeout = \"1m\"\nflight_timeout = \"2m\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let user = shard.user_with(usd("100")).await;
    let history = async || shard.node.history(user).await;
    let is_replica = |answer: &Answer| matches!(answer.source, Source::Replica { .. });
    eventually("a history from the replica", || async { is_replica(&history().await).then_some(()) }).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute("BEGIN; LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let replica = shard.cluster.shard(0).connect_replica_as_superuser().await.unwrap();
    let count = async |sql: &str| -> i64 { replica.query_one(sql, &[]).await.unwrap().get(0) };
    eventually("the lock on the replica", || async {
        let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'transactions'::regclass AND mode = 'AccessExclusiveLock'";
        (count(locked).await > 0).then_some(())
    })
    .await;
    for _ in 0..2 {
        let query = HistoryQuery {
            user_id: user,
            limit: 20,
            before: None,
            kind: None,
            from_ms: None,
            to_ms: None,
            takes_short_pages: true,
        };
        let answer = shard.node.read_within(Query::History(query), Duration::from_secs(2)).await;
        assert!(matches!(answer.found, Found::Unavailable { .. }), "{answer:?}");
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'picopay-node reads' AND state = 'active'";
        eventually("nothing that goes on at the replica", || async {
            (count(waiting).await == 0).then_some(())
        })
        .await;
        let eventual = Query::Balance { user_id: user, currency: None, consistency: Consistency::Eventual };
        let balance = shard.node.read(eventual).await;
        assert!(is_replica(&balance), "others are served there: {balance:?}");
        assert!(shard.node.status().await.unwrap().is_ready);
    }
    superuser.batch_execute("ROLLBACK").await.unwrap();
    eventually("a history from the replica again", || async { is_replica(&history().await).then_some(()) })
        .await;
    shard.stop().await;
}

#[tokio::test]
async fn a_node_whose_readers_all_wait_is_ready_and_knows_its_replica() {
    let node = "[reads]\nreplica_timeout = \"10s\"\nreplica_lag_max = \"1m\"\nheartbeat_every = \"2s\"\n[postgres]\nstatement_timeout = \"11s\"\nflight_timeout = \"12s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    eventually("a known replica", || async { shard.node.status().await.unwrap().replica_lag_ms.map(drop) })
        .await;
    superuser.batch_execute("BEGIN; LOCK TABLE balances IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let node = shard.node.clone();
            tokio::spawn(async move { node.balance(user).await })
        })
        .collect();
    shard.wait_for_blocked(8, "relation").await;
    for _ in 0..5 {
        let status = shard.node.status().await.unwrap();
        assert!(status.is_ready && !status.owned.is_empty(), "{status:?}");
        assert!(status.replica_lag_ms.is_some());
        // A second in all: a look of the gate, which must not wait for a reader's connection.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    superuser.batch_execute("ROLLBACK").await.unwrap();
    let _ = futures_util::future::join_all(reads).await;
    shard.stop().await;
}

#[tokio::test]
async fn a_made_up_token_holds_no_connection_and_no_other_read() {
    // Who waited for what cannot come would wait for ten seconds.
    let node = "[reads]\nsession_wait = \"10s\"\nreplica_timeout = \"11s\"\nreplica_lag_max = \"1m\"\n\
                [postgres]\nstatement_timeout = \"12s\"\nflight_timeout = \"13s\"\n";
    let shard = TestShard::start_with(ClusterSpec::one_shard().with_node_toml(node)).await;
    let user = shard.user_with(usd("100")).await;
    let (_, token) = shard.node.run_with_session(charge(user, usd("1"))).await;
    eventually("a history from the replica", || async {
        let answer = shard.node.history_with(user, Some(token)).await;
        matches!(answer.source, Source::Replica { .. }).then_some(())
    })
    .await;
    let beyond = LogPosition { lsn: token.position.lsn + (1 << 40), ..token.position };
    let made_up = SessionToken::new("shard-1", beyond);
    let passed_over = async |reason: &str| {
        shard.node.metric(&format!("picopay_node_replicas_passed_over_total{{reason=\"{reason}\"")).await
    };
    let began = Instant::now();
    let reads = (0..50).map(|_| shard.node.history_with(user, Some(made_up)));
    let mut histories = 0;
    for answer in futures_util::future::join_all(reads).await {
        // Or, of so many at once, refused by the primary's cap: never by a wait.
        if let Found::History { transactions, .. } = &answer.found {
            assert_eq!((transactions.len(), answer.source), (2, Source::Primary));
            histories += 1;
        }
    }
    assert!(histories > 0, "all were refused");
    // Some may have found all connections in use by the others.
    assert!(passed_over("beyond").await > 0.0);
    assert!(passed_over("behind").await.abs() < f64::EPSILON, "nobody waited for what cannot come");
    // With more of them under way than there are connections, others read.
    let flood: Vec<_> = (0..50)
        .map(|_| {
            let node = shard.node.clone();
            tokio::spawn(async move { node.history_with(user, Some(made_up)).await })
        })
        .collect();
    let answer = shard.node.history_with(user, Some(token)).await;
    assert!(matches!(answer.found, Found::History { .. }), "{answer:?}");
    let _ = futures_util::future::join_all(flood).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    shard.stop().await;
}

/// Of the tables that charges do not need. The sweeper and the courier look there each second.
#[tokio::test]
async fn whoever_locks_holds_and_transfers_stops_no_charge() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    superuser.batch_execute("BEGIN; LOCK TABLE holds, transfers IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        let status = shard.node.status().await.unwrap();
        assert!(status.is_ready, "{:?}", status.not_ready_reason);
        assert!(is_completed(&shard.node.run(charge(user, usd("0.01"))).await));
        // Their next look, and what it does to others, takes time to come.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    superuser.batch_execute("ROLLBACK").await.unwrap();
    shard.stop().await;
}
