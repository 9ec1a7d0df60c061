//! Whether a primary is set up to keep what the shard promises, and has the standby for it.

use tokio_postgres::{Client, Error};

/// What a primary says of its standbys and of the settings that durability rests on.
pub struct Standby {
    /// `synchronous_standby_names` is not empty.
    pub is_named: bool,
    /// A commit of this session would wait for one.
    pub is_waited_for: bool,
    /// `fsync` and `full_page_writes` are on.
    pub is_safe: bool,
    /// A synchronous one follows now.
    pub follows: bool,
}

/// Asks the primary behind a connection.
pub async fn read(client: &Client) -> Result<Standby, Error> {
    let row = client.query_one(include_str!("sql/read_durability.sql"), &[]).await?;
    Ok(Standby { is_named: row.get(0), is_waited_for: row.get(1), is_safe: row.get(2), follows: row.get(3) })
}
