//! Who owns which slot, and how durable writes are, as the shards' databases report it.
//!
//! Only for the report, where somebody gives `cluster.toml`.

use std::time::Duration;

use anyhow::Context;
use picopay_postgres::{Answer, Endpoint, Servers, ask_all};
use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::node_status::OwnedRange;
use serde_json::{Map, Value};
use tokio_postgres::Client;

use crate::report::Surroundings;
use crate::shard_map::ShardMap;

const PATIENCE: Duration = Duration::from_secs(5);

const DURABILITY_SETTINGS: [&str; 5] =
    ["fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names", "wal_sync_method"];

pub async fn read(cluster: &Cluster) -> anyhow::Result<(ShardMap, Surroundings)> {
    let mut around = Surroundings::default();
    let mut shards = Vec::new();
    for shard in &cluster.shards {
        let look = tokio::time::timeout(PATIENCE, read_shard(shard)).await;
        let (owned, settings, version) = look
            .map_err(|_| anyhow::anyhow!("it took longer than {} s", PATIENCE.as_secs()))
            .flatten()
            .with_context(|| format!("the primary of {} cannot be looked at", shard.name))?;
        around.durability.insert(shard.name.clone(), settings.into());
        around.versions.insert(format!("PostgreSQL of {}", shard.name), version.into());
        shards.push((shard.name.clone(), owned));
    }
    Ok((ShardMap::owned(&shards), around))
}

async fn read_shard(shard: &Shard) -> anyhow::Result<(Vec<OwnedRange>, Map<String, Value>, String)> {
    let mut endpoint =
        Endpoint::parse(&shard.primary, &shard.certificates).map_err(|reason| anyhow::anyhow!(reason))?;
    if let Some(password) = &shard.password {
        endpoint.config.password(password.expose());
    }
    endpoint.config.application_name("picopay-loadtest").connect_timeout(PATIENCE);
    let answers = ask_all(&Servers::of(&endpoint), PATIENCE).await;
    let mut reasons = Vec::new();
    for answer in answers {
        match answer {
            Answer::Stands(connection, standing) if standing.writes_on().is_some() => {
                let read = read_client(&connection.client, shard).await;
                connection.close(PATIENCE).await;
                return read;
            }
            Answer::Stands(..) => reasons.push("a server that takes no writes".to_owned()),
            Answer::Refused(error) => reasons.push(error.to_string()),
            Answer::Unknown(reason) => reasons.push(reason),
        }
    }
    anyhow::bail!("{}", reasons.join("; "))
}

async fn read_client(
    client: &Client,
    shard: &Shard,
) -> anyhow::Result<(Vec<OwnedRange>, Map<String, Value>, String)> {
    let mut settings = Map::new();
    settings.insert("durability".to_owned(), format!("{:?}", shard.durability).to_lowercase().into());
    let names: &[&str] = &DURABILITY_SETTINGS;
    let rows = client
        .query("SELECT name, setting FROM pg_settings WHERE name = ANY($1) ORDER BY name", &[&names])
        .await?;
    for row in rows {
        settings.insert(row.try_get(0)?, row.try_get::<_, String>(1)?.into());
    }
    let version: String = client.query_one("SHOW server_version", &[]).await?.try_get(0)?;
    let rows = client
        .query(
            "SELECT slot FROM slot_owner WHERE state = 'owned' AND owner = $1 ORDER BY slot",
            &[&shard.name],
        )
        .await?;
    let mut owned: Vec<OwnedRange> = Vec::new();
    for row in rows {
        let slot = u16::try_from(row.try_get::<_, i16>(0)?)?;
        match owned.last_mut() {
            Some(range) if range.last + 1 == slot => range.last = slot,
            _ => owned.push(OwnedRange { first: slot, last: slot, epoch: 0 }),
        }
    }
    Ok((owned, settings, version))
}
