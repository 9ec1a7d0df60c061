//! One row that the database does not take does not fail its neighbours.

use picopay_shared::command::{Operation, Outcome};

use crate::test_shard::{TestShard, charge, command, is_completed, usd};

#[tokio::test]
async fn a_row_that_postgres_refuses_fails_alone() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100")).await;
    let mut commands: Vec<_> = (0..63).map(|_| charge(user, usd("1"))).collect();
    let Operation::Charge(mut payment) = commands[0].operation.clone() else { unreachable!() };
    // A text with a NUL gets past no gateway, and Postgres does not take it either.
    payment.reference = Some("no\0 text".to_owned());
    commands.insert(30, command(Operation::Charge(payment)));
    let outcomes = shard.node.write(commands).await;
    assert_eq!(outcomes[30], Outcome::Internal);
    assert_eq!(outcomes.iter().filter(|outcome| is_completed(outcome)).count(), 63);
    assert_eq!(shard.node.balance(user).await, "37.00");
    assert!(shard.node.metric("picopay_node_halved_batches_total").await > 0.0);
    shard.stop().await;
}
