//! What somebody does to the ledger by hand fails the user whose row it is, and nobody else. Nothing is booked halfway.

use picopay_shared::command::{Attempt, Operation, Outcome, Payment};
use picopay_shared::query::{Consistency, Found, Query};
use picopay_shared::slot::UserId;
use tokio_postgres::error::SqlState;

use crate::test_shard::{TestShard, charge, command, decided, is_completed, refund, top_up, usd};

/// Interleaving: a batch has read the balance; somebody without the user's lock changes the row, and commits while the
/// batch's UPDATE waits for it. The row is not where it was found then.
#[tokio::test]
async fn a_balance_that_was_changed_meanwhile_fails_the_charge_and_books_nothing() {
    let shard = TestShard::start_patient().await;
    let user = shard.user_with(usd("100")).await;
    let hand = shard.cluster.connect_primary(0).await.unwrap();
    hand.batch_execute("BEGIN").await.unwrap();
    let change = "UPDATE balances SET balance = balance + 1 WHERE user_id = $1";
    hand.execute(change, &[&user.get()]).await.unwrap();
    let (node, asked) = (shard.node.clone(), charge(user, usd("10")));
    let asked = tokio::spawn(async move { node.run(asked).await });
    shard.wait_for_blocked(1, "transactionid").await;
    hand.batch_execute("COMMIT").await.unwrap();
    assert_eq!(asked.await.unwrap(), Outcome::Internal);
    assert_eq!(shard.row_count(user).await, 1, "the top-up only");
    assert_eq!(shard.node.balance(user).await, "101.00");
    assert!(is_completed(&shard.node.run(charge(user, usd("10"))).await));
    assert_eq!(shard.node.balance(user).await, "91.00");
    shard.stop().await;
}

/// The same by something that never goes away, for each statement whose rows nobody looks at before COMMIT.
#[tokio::test]
async fn rows_that_the_database_keeps_from_being_written_fail_their_own_user_alone() {
    let shard = TestShard::start().await;
    let [one, two] = [shard.user_with(usd("100")).await, shard.user_with(usd("100")).await];
    let [new, newer] = [shard.user_with(usd("0")).await, shard.user_with(usd("0")).await];
    let charged = [
        decided(&shard.node.run(charge(one, usd("10"))).await).0.id,
        decided(&shard.node.run(charge(two, usd("10"))).await).0.id,
    ];
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let odd = format!("new.user_id IN ({one}, {new})");
    let nothing = format!(
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF {odd} THEN RETURN NULL; END IF; RETURN new; END $$"
    );
    database.batch_execute(&nothing).await.unwrap();
    for (table, commands) in [
        ("balances", [charge(one, usd("1")), charge(two, usd("1"))]),
        ("balances", [top_up(new, usd("1")), top_up(newer, usd("1"))]),
        ("refund_totals", [refund(charged[0], None), refund(charged[1], None)]),
    ] {
        let make = format!(
            "CREATE TRIGGER leave_out BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION leave_out()"
        );
        database.batch_execute(&make).await.unwrap();
        let outcomes = shard.node.write(commands.to_vec()).await;
        assert_eq!(outcomes[0], Outcome::Internal, "{table}");
        assert!(is_completed(&outcomes[1]), "{table}: {:?}", outcomes[1]);
        database.batch_execute(&format!("DROP TRIGGER leave_out ON {table}")).await.unwrap();
    }
    let sql = "SELECT count(*) FROM balances b WHERE balance <> (
                   SELECT sum(CASE WHEN kind IN ('charge', 'transfer_out') THEN -amount WHEN kind IN ('hold', 'void', 'expiry') THEN 0 ELSE amount END) FROM transactions t
                   WHERE t.user_id = b.user_id AND refusal IS NULL)";
    assert_eq!(database.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!((shard.row_count(one).await, shard.row_count(new).await), (2, 0));
    shard.stop().await;
}

#[tokio::test]
async fn a_nan_fails_its_own_user_and_nobody_elses_lane() {
    let shard = TestShard::start().await;
    let [odd, even] = [shard.user_with(usd("100")).await, shard.user_with(usd("100")).await];
    let charged = decided(&shard.node.run(charge(odd, usd("10"))).await).0.id;
    let superuser = shard.cluster.connect_as_superuser(0).await.unwrap();
    let constraints = "ALTER TABLE balances DROP CONSTRAINT IF EXISTS balance_is_a_number;
                       ALTER TABLE refund_totals DROP CONSTRAINT IF EXISTS totals_are_numbers;
                       ALTER TABLE transactions DROP CONSTRAINT IF EXISTS amounts_are_numbers";
    superuser.batch_execute(constraints).await.unwrap();
    let serves = async |what: &str| {
        let outcomes = shard.node.write(vec![charge(odd, usd("1")), charge(even, usd("1"))]).await;
        assert_eq!(outcomes[0], Outcome::Internal, "{what}");
        assert!(is_completed(&outcomes[1]), "{what}: {:?}", outcomes[1]);
        assert!(shard.node.status().await.unwrap().is_ready, "{what}: the gate is open");
    };
    let set = async |sql: &str, user: UserId| {
        assert_eq!(superuser.execute(sql, &[&user.get()]).await.unwrap(), 1, "{sql}");
    };
    set("UPDATE balances SET balance = 'NaN' WHERE user_id = $1", odd).await;
    serves("balances").await;
    let read = shard
        .node
        .read(Query::Balance { user_id: odd, currency: None, consistency: Consistency::Strong })
        .await;
    assert!(matches!(read.found, Found::Unavailable { .. }), "{read:?}");
    set("UPDATE balances SET balance = 90, last_stamp = -1 WHERE user_id = $1", odd).await;
    serves("balances").await;
    set("UPDATE balances SET balance = 90, last_stamp = 0 WHERE user_id = $1", odd).await;

    let amount = "UPDATE transactions SET amount = $2::text::numeric WHERE id = $1";
    superuser.execute(amount, &[&charged.as_uuid(), &"NaN"]).await.unwrap();
    let outcomes = shard.node.write(vec![refund(charged, None), charge(even, usd("1"))]).await;
    assert_eq!(outcomes[0], Outcome::Internal);
    assert!(is_completed(&outcomes[1]));
    let read = shard.node.history(odd).await;
    assert!(matches!(read.found, Found::Unavailable { .. }), "{read:?}");
    superuser.execute(amount, &[&charged.as_uuid(), &"10"]).await.unwrap();

    let total =
        "INSERT INTO refund_totals SELECT slot, user_id, id, 'NaN', 'NaN' FROM transactions WHERE id = $1";
    superuser.execute(total, &[&charged.as_uuid()]).await.unwrap();
    let outcomes = shard.node.write(vec![refund(charged, None), charge(even, usd("1"))]).await;
    assert_eq!(outcomes[0], Outcome::Internal);
    assert!(is_completed(&outcomes[1]));
    // More than the charge itself was given back: no number that anybody could go on from.
    superuser
        .execute(
            "UPDATE refund_totals SET charged = 99, refunded = 99 WHERE charge_id = $1",
            &[&charged.as_uuid()],
        )
        .await
        .unwrap();
    let outcomes = shard.node.write(vec![refund(charged, None), charge(even, usd("1"))]).await;
    assert_eq!(outcomes[0], Outcome::Internal);
    assert!(is_completed(&outcomes[1]));
    shard.stop().await;
}

#[tokio::test]
async fn the_database_takes_no_nan() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let charged = decided(&shard.node.run(charge(user, usd("10"))).await).0.id;
    assert!(is_completed(&shard.node.run(refund(charged, Some("1"))).await));
    let database = shard.cluster.connect_primary(0).await.unwrap();
    for change in [
        "UPDATE balances SET balance = 'NaN'",
        "UPDATE transactions SET amount = 'NaN' WHERE kind = 'charge'",
        "UPDATE transactions SET balance_after = 'NaN'",
        "UPDATE transactions SET remaining = 'NaN'",
        "UPDATE refund_totals SET charged = 'NaN'",
        "UPDATE refund_totals SET charged = 'NaN', refunded = 'NaN'",
        "UPDATE balances SET balance = 'Infinity'",
    ] {
        let refused = database.batch_execute(change).await.unwrap_err();
        let code = refused.code().unwrap().code();
        assert!(["23514", "22003"].contains(&code), "{change}: {refused:?}");
    }
    shard.stop().await;
}

#[tokio::test]
async fn a_user_is_not_made_where_the_database_has_lost_state() {
    let shard = TestShard::start().await;
    let neighbour = shard.user_with(usd("1")).await;
    let new_user = UserId::try_from(77_000_001).unwrap();
    let of_today = |command| Attempt { command, epoch: 1 };
    let ahead = Attempt { command: command(Operation::CreateUser { user_id: new_user }), epoch: 5 };
    let attempts = vec![ahead.clone(), of_today(charge(neighbour, usd("1")))];
    let outcomes = shard.node.try_attempts(attempts).await.unwrap().outcomes;
    assert!(matches!(outcomes[0], Outcome::Unavailable { .. }), "{outcomes:?}");
    assert!(is_completed(&outcomes[1]));
    let database = shard.cluster.connect_primary(0).await.unwrap();
    let sql = "SELECT count(*) FROM users WHERE user_id = $1";
    let count: i64 = database.query_one(sql, &[&new_user.get()]).await.unwrap().get(0);
    assert_eq!(count, 0, "a refusal that writes");
    // Beside one of a request that has seen no such epoch, it is this one that makes the user.
    let attempts = vec![ahead, of_today(command(Operation::CreateUser { user_id: new_user }))];
    let outcomes = shard.node.try_attempts(attempts).await.unwrap().outcomes;
    assert!(
        matches!(outcomes[0], Outcome::Unavailable { .. }) && outcomes[1] == Outcome::UserCreated,
        "{outcomes:?}"
    );
    shard.stop().await;
}

/// As when somebody changed it between the two flights of a batch.
#[tokio::test]
async fn a_balance_that_is_not_what_the_batch_read_is_not_written() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let hand = shard.cluster.connect_primary(0).await.unwrap();
    let (slot, id) = (user.slot().as_i16(), user.get());
    let row = "uuid_send(gen_random_uuid()), now(), 10, 90, 'charge', 'USD', NULL, NULL, NULL::uuid, NULL::numeric, NULL, NULL, NULL";
    let one = format!("{slot}, {id}, gen_random_uuid(), gen_random_uuid(), {row}");
    let columns: Vec<String> = one.split(", ").map(|value| format!("ARRAY[{value}]")).collect();
    let batch = format!("{}, ARRAY[{slot}], ARRAY[{id}], ARRAY['USD']", columns.join(", "));
    for (text, values, last) in [
        (include_str!("../../src/sql/write_one.sql"), one, ["90", "7"]),
        (include_str!("../../src/sql/write_batch.sql"), batch, ["ARRAY[90]", "ARRAY[7]"]),
    ] {
        let write = async |before: &str| {
            let before =
                if last[0].starts_with("ARRAY") { format!("ARRAY[{before}]") } else { before.to_owned() };
            let statement = format!(
                "BEGIN; PREPARE write AS {text}; EXECUTE write ({values}, {before}, {}, {})",
                last[0], last[1]
            );
            let written = hand.batch_execute(&statement).await;
            hand.batch_execute("ROLLBACK; DEALLOCATE ALL").await.unwrap();
            written.map_err(|error| error.code().cloned())
        };
        assert_eq!(write("100").await, Ok(()));
        assert_eq!(write("99.99").await, Err(Some(SqlState::DIVISION_BY_ZERO)));
    }
    shard.stop().await;
}

/// Interleaving: a hold's batch has read the balance; somebody without the user's lock changes it, and commits before the batch
/// writes. What is held says nothing of the balance, and would be written beside what it was before.
#[tokio::test]
async fn a_balance_that_changed_between_the_flights_is_not_written_over_by_what_is_held_of_it() {
    let shard = TestShard::start_patient().await;
    let user = shard.user_with(usd("100")).await;
    let payment = Payment { user_id: user, money: usd("10"), reference: None, metadata: None };
    let hold = command(Operation::Hold { payment, expires_in_s: 60 });
    let mut hand = shard.cluster.connect_primary(0).await.unwrap();
    let by_hand = hand.transaction().await.unwrap();
    // The second flight begins with this table, and the first one does not write it.
    by_hand.batch_execute("LOCK TABLE transactions IN SHARE MODE").await.unwrap();
    let (node, asked) = (shard.node.clone(), hold.clone());
    let asked = tokio::spawn(async move { node.run(asked).await });
    shard.wait_for_blocked(1, "relation").await;
    let change = "UPDATE balances SET balance = balance + 1 WHERE user_id = $1";
    assert_eq!(by_hand.execute(change, &[&user.get()]).await.unwrap(), 1);
    by_hand.commit().await.unwrap();
    assert_eq!(asked.await.unwrap(), Outcome::Internal);
    assert_eq!((shard.row_count(user).await, shard.node.balance(user).await.as_str()), (1, "101.00"));
    // The same hold finds the balance as it is now.
    assert!(is_completed(&shard.node.run(hold).await));
    assert_eq!(shard.node.balance(user).await, "101.00");
    shard.stop().await;
}
