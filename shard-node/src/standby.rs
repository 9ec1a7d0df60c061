//! Whether a primary is set up to keep what the shard promises, and has the standby for it.

use picopay_shared::cluster::Durability;
use tokio_postgres::{Client, Error};

/// The standbys of a primary, and the settings that durability needs.
pub struct Standby {
    pub follows: bool,
    missing: [(bool, Option<Durability>, &'static str); 4],
}

pub async fn read(client: &Client) -> Result<Standby, Error> {
    let row = client.query_one(include_str!("sql/read_durability.sql"), &[]).await?;
    let [is_named, is_waited_for, is_safe, follows]: [bool; 4] =
        [row.get(0), row.get(1), row.get(2), row.get(3)];
    let replicated = Some(Durability::Replicated);
    let missing = [
        (!is_safe, None, "fsync and full_page_writes must be on at the primary"),
        (
            !is_named,
            replicated,
            "durability is \"replicated\" but the primary's synchronous_standby_names is empty",
        ),
        (
            !is_waited_for,
            replicated,
            "durability is \"replicated\" but synchronous_commit is not on in a session that asks for it",
        ),
        (
            !follows,
            replicated,
            "no standby that synchronous_standby_names names follows the primary; \
             `picopay shard degrade` goes on without one",
        ),
    ];
    Ok(Standby { follows, missing })
}

impl Standby {
    pub fn lacks_for(&self, durability: Durability) -> Option<&'static str> {
        let concerns = |of: Option<Durability>| of.is_none_or(|of| of == durability);
        let mut lacking = self.missing.iter().filter(|(is_missing, of, _)| *is_missing && concerns(*of));
        lacking.next().map(|(.., reason)| *reason)
    }
}
