//! Whether an operator lets the shard go on without its synchronous standby, as its own database says.

use picopay_shared::node_status::Degradation;
use tokio_postgres::Client;

/// The migration that brings the table must have been applied.
pub async fn read(client: &Client) -> Result<Option<Degradation>, tokio_postgres::Error> {
    let row = client.query_opt(include_str!("sql/read_degradation.sql"), &[]).await?;
    Ok(row.map(|row| Degradation { since: row.get(0), by: row.get(1), reason: row.get(2) }))
}
