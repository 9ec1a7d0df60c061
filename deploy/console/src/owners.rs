//! Reads the owner rows of all shards again and again, over connections that stay open for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use picopay_postgres::{Patience, ShardDb};
use picopay_shared::cluster::{Cluster, Shard};

use crate::slot_map::{Said, SlotMap};

/// As `picopay status`: of two hosts of which one is frozen, the other answers in a few seconds.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), statement: Duration::from_secs(1) };

/// After a failover the rows of the new primary count. A server that was replaced may answer until somebody stops it.
const CONNECTION_FOR: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Owners {
    cluster: Option<Arc<Cluster>>,
    shards: Vec<Known>,
}

#[derive(Default)]
struct Known {
    database: Option<(ShardDb, Instant)>,
    said: Said,
}

impl Owners {
    pub async fn read(&mut self, cluster: &Arc<Cluster>) -> SlotMap {
        if self.cluster.as_ref().is_none_or(|known| !Arc::ptr_eq(known, cluster)) {
            self.cluster = Some(Arc::clone(cluster));
            self.shards = cluster.shards.iter().map(|_| Known::default()).collect();
        }
        join_all(self.shards.iter_mut().zip(&cluster.shards).map(|(known, shard)| known.ask(shard))).await;
        let names: Vec<String> = cluster.shards.iter().map(|shard| shard.name.clone()).collect();
        let said: Vec<Said> = self.shards.iter().map(|known| known.said.clone()).collect();
        SlotMap::new(&names, &said)
    }
}

impl Known {
    async fn ask(&mut self, shard: &Shard) {
        let kept = self
            .database
            .take()
            .filter(|(database, since)| since.elapsed() < CONNECTION_FOR && !database.is_closed());
        let read = async {
            let (database, since) = match kept {
                Some(kept) => kept,
                None => (ShardDb::primary(shard, PATIENCE).await?, Instant::now()),
            };
            let rows = database.read_owners().await?;
            Ok::<_, picopay_postgres::DbError>((rows, database, since))
        };
        match read.await {
            Ok((rows, database, since)) => {
                self.database = Some((database, since));
                self.said = Said { rows, silence: None, is_known: true };
            }
            Err(error) => self.said.silence = Some(error.to_string()),
        }
    }
}
