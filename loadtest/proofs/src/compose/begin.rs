//! What README promises of a cluster that was just started: the demo users, the charge, and the same answer again. Then
//! that `down` and `up` keep it.

use anyhow::{Context, ensure};
use picopay_client::{Client, Payment};
use uuid::uuid;

use super::project::{DEMO_KEY, Project};

/// 1000.00 less the charge of 50.00.
const LEFT_CENTS: u64 = 95_000;

pub async fn charge_as_readme(client: &Client) -> anyhow::Result<()> {
    let payment = Payment::new(1, "50.00", "USD")?.with_key(uuid!("550e8400-e29b-41d4-a716-446655440000"));
    let first = client.charge(&payment).await?;
    let again = client.charge(&payment).await?;
    ensure!(first.transaction.id == again.transaction.id, "the same key made two transactions");
    check_balance(client).await
}

pub async fn down_and_up(project: &Project) -> anyhow::Result<()> {
    project.compose(&["down"]).await?;
    project.up(&[]).await.context("the second start")?;
    let client = Client::new(&project.url(), DEMO_KEY)?;
    check_balance(&client).await.context("after down and up")
}

pub async fn check_balance(client: &Client) -> anyhow::Result<()> {
    let balance = client.balance(1, "USD").await?;
    ensure!(
        balance.balance.minor_units() == Some(LEFT_CENTS),
        "user 1 has {} USD and not 950.00",
        balance.balance.as_str()
    );
    Ok(())
}
