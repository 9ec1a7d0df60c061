//! Transactions that exist before a load, written without the hours that charging them would take.

use std::time::Instant;

use anyhow::Context;

use super::stand::Stand;

/// Writes `charges` transactions in books that stay closed, the same number for each user. Returns how many each has.
pub async fn fill(stand: &Stand, transactions: u64) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut users: i64 = 0;
    for primary in stand.primaries() {
        users += primary.query_one("SELECT count(*) FROM users", &[]).await?.try_get::<_, i64>(0)?;
    }
    let turns = i64::try_from(transactions)? / users.max(1);
    let fill = stand.primaries().iter().map(|primary| async move {
        // The rows are right by construction, and verify looks at each. Foreign keys would take twice the time.
        primary.batch_execute("SET session_replication_role = replica").await?;
        let insert = primary.prepare(include_str!("sql/fill_history.sql")).await?;
        for turn in 1..=turns {
            primary.execute(&insert, &[&turn]).await?;
        }
        primary.execute(include_str!("sql/fill_history_balances.sql"), &[]).await?;
        primary.batch_execute("RESET session_replication_role").await
    });
    futures_util::future::try_join_all(fill).await.context("the users' past cannot be filled in")?;
    stand.settle().await?;
    eprintln!("{} charges filled in, in {:.0} s", turns * users, started.elapsed().as_secs_f64());
    Ok(u64::try_from(turns)?)
}
