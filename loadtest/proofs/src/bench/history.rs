//! Transactions that exist before a load, written without the hours that charging them would take.

use std::time::Instant;

use anyhow::Context;

use super::stand::Stand;

/// Writes so many transactions in books that stay closed, the same number for each user. Returns how many each has.
pub async fn fill(stand: &Stand, transactions: u64) -> anyhow::Result<u64> {
    let mut users: i64 = 0;
    for primary in stand.primaries() {
        users += primary.query_one("SELECT count(*) FROM users", &[]).await?.try_get::<_, i64>(0)?;
    }
    let turns = i64::try_from(transactions)? / users.max(1);
    fill_users(stand, i64::MAX, turns).await?;
    Ok(u64::try_from(turns)?)
}

/// Writes so many transactions for each user up to this id. Returns how many there are.
pub async fn fill_users(stand: &Stand, user_max: i64, turns: i64) -> anyhow::Result<u64> {
    let started = Instant::now();
    let fill = stand.primaries().iter().map(|primary| async move {
        // The rows are right by construction, and verify looks at each. Foreign keys would take twice the time.
        primary.batch_execute("SET session_replication_role = replica").await?;
        let insert = primary.prepare(include_str!("sql/fill_history.sql")).await?;
        let mut rows = 0;
        for turn in 1..=turns {
            rows += primary.execute(&insert, &[&turn, &user_max]).await?;
        }
        primary.execute(include_str!("sql/fill_history_balances.sql"), &[]).await?;
        primary.batch_execute("RESET session_replication_role").await?;
        Ok::<u64, tokio_postgres::Error>(rows)
    });
    let filled = futures_util::future::try_join_all(fill).await;
    let rows: u64 = filled.context("the users' past cannot be filled in")?.into_iter().sum();
    stand.settle().await?;
    eprintln!("{rows} charges filled in, in {:.0} s", started.elapsed().as_secs_f64());
    Ok(rows)
}
