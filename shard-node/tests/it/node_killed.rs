//! A node that dies takes nothing with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use picopay_shared::command::{Command, Transaction};

use crate::test_shard::{TestShard, charge, decided, eventually, is_completed, usd};

#[tokio::test]
async fn after_a_sigkill_every_acknowledged_charge_is_there_once_and_every_other_can_be_retried() {
    let shard = TestShard::start().await;
    let user = shard.user_with(usd("100000")).await;
    let (stop, booked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (node, stop, booked) = (shard.node.clone(), Arc::clone(&stop), Arc::clone(&booked));
            tokio::spawn(async move {
                let (mut acknowledged, mut unanswered): (Vec<Transaction>, Vec<Command>) = Default::default();
                while !stop.load(Ordering::Relaxed) {
                    let command = charge(user, usd("0.01"));
                    match node.try_write(vec![command.clone()]).await {
                        Ok(reply) if is_completed(&reply.outcomes[0]) => {
                            acknowledged.push(decided(&reply.outcomes[0]).0.clone());
                            booked.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) | Err(_) => {
                            unanswered.push(command);
                            // Or eight clients that are refused at once would keep the node from starting.
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
                (acknowledged, unanswered)
            })
        })
        .collect();
    let node = shard.cluster.shard(0).node(0);
    let goes_on = async || {
        let before = booked.load(Ordering::Relaxed);
        eventually("charges", async || booked.load(Ordering::Relaxed) >= before + 40).await;
    };
    for _ in 0..3 {
        goes_on().await;
        node.kill().await.unwrap();
        node.start().await.unwrap();
    }
    goes_on().await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = HashMap::new();
    for task in load {
        let (booked, unanswered) = task.await.unwrap();
        acknowledged.extend(booked.into_iter().map(|one| (one.idempotency_key.unwrap(), one)));
        for command in unanswered {
            let outcome = eventually("an answer to the retry", || async {
                let reply = shard.node.try_write(vec![command.clone()]).await.ok()?;
                is_completed(&reply.outcomes[0]).then(|| reply.outcomes[0].clone())
            })
            .await;
            acknowledged.insert(command.idempotency_key, decided(&outcome).0.clone());
        }
    }
    assert!(acknowledged.len() > 100, "the load was real: {}", acknowledged.len());

    let database = shard.cluster.connect_primary(0).await.unwrap();
    let rows = database
        .query(
            "SELECT id, idempotency_key FROM transactions WHERE user_id = $1 AND kind = 'charge'",
            &[&user.get()],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), acknowledged.len());
    for row in rows {
        let (id, key): (uuid::Uuid, uuid::Uuid) = (row.get(0), row.get(1));
        assert_eq!(acknowledged[&key].id.as_uuid(), id);
    }
    let cents = 10_000_000 - i64::try_from(acknowledged.len()).unwrap();
    assert_eq!(shard.node.balance(user).await, format!("{}.{:02}", cents / 100, cents % 100));
    shard.stop().await;
}
