//! What the databases hold: as many rows as clients know of, each in a slot that its shard owns.

use anyhow::Context;
use picopay_local::LocalCluster;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    pub transactions: i64,
    pub users: i64,
    pub out_of_place: i64,
}

impl Rows {
    pub async fn count(cluster: &LocalCluster) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for shard in cluster.shards() {
            let database = shard.connect_primary().await?;
            let row = database
                .query_one(include_str!("sql/count_rows.sql"), &[])
                .await
                .with_context(|| format!("the rows of {} cannot be counted", shard.name()))?;
            sum.transactions += row.try_get::<_, i64>(0)?;
            sum.users += row.try_get::<_, i64>(1)?;
            sum.out_of_place += row.try_get::<_, i64>(2)?;
        }
        Ok(sum)
    }
}
