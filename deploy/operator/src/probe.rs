//! Asks each part of a shard how it is. A part that does not answer in time is down, and does not delay the rest.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use picopay_migrations::Unfit;
use picopay_mover::MOVER_LOCK;
use picopay_shard_node_config::{redis_client, redis_trouble};
use picopay_shared::cluster::{Cluster, Shard};
use picopay_shared::config::Secret;
use picopay_shared::node_status::{Degradation, NodeStatus, STATUS_PATH, WIRE_HEADER, WIRE_VERSION};
use picopay_shared::running_config::{CONFIG_PATH, RunningConfig};
use picopay_shared::slot_owner::SlotState;
use picopay_tls::{Caller, Connector};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{Json, PgLsn};
use uuid::Uuid;

use picopay_postgres::{DbError, Patience, ShardDb, read_identity};

/// If the first of two hosts is frozen, the second still answers in a few seconds.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(2), statement: Duration::from_secs(1) };
const NODE_TIMEOUT: Duration = Duration::from_secs(1);
/// Nodes give it less; an operator wants to know whether it lives.
const REDIS_TIMEOUT: Duration = Duration::from_secs(1);
/// A little more than what counts as a problem.
const CATCH_UP_MAX: Duration = Duration::from_millis(2_100);
const METRICS_PATH: &str = "/metrics";
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// More than a node's slots, one by one, with every field at its longest.
const NODE_STATUS_BYTES_MAX: usize = 1 << 20;

pub struct ShardProbe {
    pub primary: Result<PrimaryState, DbError>,
    pub replicas: Vec<Result<ReplicaState, DbError>>,
    pub nodes: Vec<Result<NodeStatus, String>>,
    pub redis: Option<RedisState>,
}

impl ShardProbe {
    /// From the primary, else from a replica, which may be behind.
    pub fn known_ledger(&self) -> Option<(&LedgerState, &'static str)> {
        if let Ok(primary) = &self.primary {
            return primary.ledger.as_ref().map(|ledger| (ledger, "primary"));
        }
        let mut replicas = self.replicas.iter().flatten();
        replicas.find_map(|replica| replica.ledger.as_ref()).map(|ledger| (ledger, "replica"))
    }
}

pub struct PrimaryState {
    pub version: String,
    pub lsn: PgLsn,
    pub standbys: Vec<Standby>,
    pub ledger: Option<LedgerState>,
}

/// As its primary sees it. All but the name is hidden from a user who is not a member of `pg_monitor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    pub name: String,
    pub state: Option<String>,
    pub sync_state: Option<String>,
    pub lag_bytes: Option<i64>,
}

impl Standby {
    pub fn is_synchronous(&self) -> bool {
        self.state.as_deref() == Some("streaming")
            && matches!(self.sync_state.as_deref(), Some("sync" | "quorum"))
    }
}

pub struct ReplicaState {
    pub version: String,
    pub is_in_recovery: bool,
    pub lsn: Option<PgLsn>,
    /// How long it took to replay what the primary had flushed when it was asked, at most [`CATCH_UP_MAX`]. Unknown without
    /// a primary.
    pub lag: Option<Duration>,
    pub ledger: Option<LedgerState>,
}

pub struct LedgerState {
    pub identity: Option<(Uuid, String)>,
    pub schema: Result<(), Unfit>,
    pub degraded: Option<Degradation>,
    pub owned: Vec<u16>,
    /// The slots that it has to do with and does not own, in order.
    pub others: Vec<OtherSlot>,
    pub is_mover_at_work: bool,
    /// `None` when none is, and in a schema from before there were transfers.
    pub pending_transfers: Option<PendingTransfers>,
}

/// The unfinished transfers of a shard's senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingTransfers {
    pub count: u64,
    /// Of the oldest unfinished one.
    pub for_s: u64,
}

/// On its way in, given away, or not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherSlot {
    pub slot: u16,
    pub state: SlotState,
    pub owner: String,
    pub has_rows: bool,
}

pub struct RedisState {
    pub address: String,
    pub answered: Result<Duration, String>,
}

type NodeClient = Client<Connector, Empty<Bytes>>;

fn node_client(cluster: &Cluster) -> NodeClient {
    let connector = Connector::to_nodes(cluster.caller.as_ref(), NODE_TIMEOUT)
        .expect("certificates that could be read can be used");
    Client::builder(TokioExecutor::new()).build(connector)
}

pub async fn probe(cluster: &Cluster, shard: &Shard) -> ShardProbe {
    let (client, internal_secret) = (node_client(cluster), &cluster.internal_secret);
    let (told, end) = watch::channel(None);
    let replicas = shard.replicas.iter().map(|text| probe_replica(shard, text, end.clone()));
    let nodes = shard.nodes.iter().map(|url| probe_node(&client, url, internal_secret));
    let redis = async { if shard.redis.is_some() { Some(probe_redis(shard).await) } else { None } };
    let (primary, replicas, nodes, redis) =
        tokio::join!(probe_primary(shard, told), join_all(replicas), join_all(nodes), redis);
    ShardProbe { primary, replicas, nodes, redis }
}

pub async fn node(cluster: &Cluster, url: &str) -> Result<NodeStatus, String> {
    probe_node(&node_client(cluster), url, &cluster.internal_secret).await
}

async fn probe_primary(
    shard: &Shard,
    told: watch::Sender<Option<(PgLsn, Instant)>>,
) -> Result<PrimaryState, DbError> {
    let database = ShardDb::primary_of_anybody(shard, PATIENCE).await?;
    let asked = Instant::now();
    let row = database.query_one(include_str!("sql/read_primary_state.sql"), &[]).await?;
    told.send_replace(Some((row.get(1), asked)));
    let ledger = read_ledger_state(&database).await?;
    database.close().await;
    let Json(standbys) = row.get(2);
    Ok(PrimaryState { version: row.get(0), lsn: row.get(1), standbys, ledger })
}

async fn probe_replica(
    shard: &Shard,
    connection_string: &str,
    mut end: watch::Receiver<Option<(PgLsn, Instant)>>,
) -> Result<ReplicaState, DbError> {
    let database = ShardDb::replica(shard, connection_string, PATIENCE).await?;
    let ledger = read_ledger_state(&database).await?;
    let end = end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
    let sql = include_str!("sql/read_replica_state.sql");
    let mut row = database.query_one(sql, &[]).await?;
    let mut lag = end.map(|_| Duration::ZERO);
    if let Some((end, asked)) = end {
        while row.get::<_, Option<PgLsn>>(2).is_some_and(|replayed| replayed < end)
            && asked.elapsed() < CATCH_UP_MAX
        {
            sleep(LOOK_AGAIN_AFTER).await;
            lag = Some(asked.elapsed());
            row = database.query_one(sql, &[]).await?;
        }
    }
    database.close().await;
    Ok(ReplicaState { version: row.get(0), is_in_recovery: row.get(1), lsn: row.get(2), lag, ledger })
}

async fn read_pending(database: &ShardDb) -> Result<Option<PendingTransfers>, DbError> {
    let row = database.query_one(include_str!("sql/read_pending_transfers.sql"), &[]).await?;
    let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
    Ok((number(0) > 0).then(|| PendingTransfers { count: number(0), for_s: number(1) }))
}

async fn read_ledger_state(database: &ShardDb) -> Result<Option<LedgerState>, DbError> {
    // The last tables of the two migrations: when one is there, the others of its migration are.
    let tables = "SELECT to_regclass('heartbeat') IS NOT NULL, to_regclass('degradation') IS NOT NULL,
                         to_regclass('transfers') IS NOT NULL";
    let row = database.query_one(tables, &[]).await?;
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let schema = database.check_schema().await?;
    let pending_transfers = if row.get(2) { read_pending(database).await? } else { None };
    let degraded = if row.get(1) { database.read_degradation().await? } else { None };
    let identity = read_identity(database).await?.map(|identity| (identity.cluster_id, identity.shard_name));
    let owned = database
        .query("SELECT slot::integer FROM slot_owner WHERE state = 'owned' ORDER BY slot", &[])
        .await?;
    let others = database.query(include_str!("sql/read_other_slots.sql"), &[]).await?;
    let others = others.iter().filter_map(|row| {
        let slot = u16::try_from(row.get::<_, i32>(0)).ok()?;
        Some(OtherSlot {
            slot,
            state: SlotState::of_column(row.get(1))?,
            owner: row.get(2),
            has_rows: row.get(3),
        })
    });
    let at_work = database.query_one(include_str!("sql/is_mover_at_work.sql"), &[&MOVER_LOCK]).await?;
    Ok(Some(LedgerState {
        identity,
        schema,
        degraded,
        owned: owned.iter().filter_map(|row| u16::try_from(row.get::<_, i32>(0)).ok()).collect(),
        others: others.collect(),
        is_mover_at_work: at_work.get(0),
        pending_transfers,
    }))
}

#[derive(Debug)]
pub enum NotTold {
    SecretRefused,
    NoAnswer(String),
}

/// Asks services for their pages of metrics, over connections that stay open.
pub struct Asker(NodeClient);

impl Asker {
    pub fn new(cluster: &Cluster) -> Self {
        Self(node_client(cluster))
    }
}

/// The page of metrics of a gateway or a node. They need no secret, and a gateway's address may be public.
pub async fn metrics(Asker(client): &Asker, url: &str) -> Result<String, String> {
    let asked = timeout(NODE_TIMEOUT, send(client, Request::get(format!("{url}{METRICS_PATH}")))).await;
    let (status, body) = asked.map_err(|_| format!("no answer in {} s", NODE_TIMEOUT.as_secs()))??;
    if status != StatusCode::OK {
        return Err(format!("it answers {status}: are its metrics at an admin address?"));
    }
    String::from_utf8(body.into()).map_err(|_| "its metrics are no text".to_owned())
}

pub async fn node_config(cluster: &Cluster, url: &str) -> Result<RunningConfig, NotTold> {
    running_config(&node_client(cluster), &cluster.internal_secret, url).await
}

/// `caller`: whom to believe where the URL says `https`.
pub async fn gateway_config(
    cluster: &Cluster,
    url: &str,
    caller: Option<&Caller>,
) -> Result<RunningConfig, NotTold> {
    let connector =
        Connector::to_gateways(caller, NODE_TIMEOUT).expect("certificates that could be read can be used");
    let client = Client::builder(TokioExecutor::new()).build(connector);
    running_config(&client, &cluster.internal_secret, url).await
}

async fn running_config(
    client: &NodeClient,
    internal_secret: &Secret,
    url: &str,
) -> Result<RunningConfig, NotTold> {
    let asked = timeout(NODE_TIMEOUT, ask(client, url, CONFIG_PATH, internal_secret)).await;
    match asked {
        Err(_) => Err(NotTold::NoAnswer(format!("no answer in {} s", NODE_TIMEOUT.as_secs()))),
        Ok(Err(reason)) => Err(NotTold::NoAnswer(reason)),
        // A gateway's address may be public: to others than its own operators nothing is there.
        Ok(Ok((StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND, _))) => Err(NotTold::SecretRefused),
        Ok(Ok((StatusCode::OK, body))) => serde_json::from_slice(&body)
            .map_err(|error| NotTold::NoAnswer(format!("its answer is no configuration: {error}"))),
        Ok(Ok((status, _))) => {
            Err(NotTold::NoAnswer(format!("it answers {status}: is this a gateway or a shard node?")))
        }
    }
}

async fn probe_node(client: &NodeClient, url: &str, internal_secret: &Secret) -> Result<NodeStatus, String> {
    let asked = timeout(NODE_TIMEOUT, ask_node(client, url, internal_secret)).await;
    asked.map_err(|_| format!("no answer in {} s", NODE_TIMEOUT.as_secs()))?
}

async fn ask_node(client: &NodeClient, url: &str, internal_secret: &Secret) -> Result<NodeStatus, String> {
    let (status, body) = ask(client, url, STATUS_PATH, internal_secret).await?;
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err("it refuses the internal_secret: is its cluster.toml another one?".to_owned());
        }
        status => return Err(format!("it answers {status}: is this a shard node?")),
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer is no node status: {error}"))
}

async fn ask(
    client: &NodeClient,
    url: &str,
    path: &str,
    internal_secret: &Secret,
) -> Result<(StatusCode, Bytes), String> {
    let request = Request::get(format!("{url}{path}"))
        .header(AUTHORIZATION, format!("Bearer {}", internal_secret.expose()))
        .header(WIRE_HEADER, WIRE_VERSION);
    send(client, request).await
}

async fn send(client: &NodeClient, request: http::request::Builder) -> Result<(StatusCode, Bytes), String> {
    let request = request
        .body(Empty::new())
        .map_err(|error| format!("its URL or the internal_secret cannot be sent: {error}"))?;
    let reply = client.request(request).await.map_err(|error| root_cause(&error))?;
    let status = reply.status();
    let body = Limited::new(reply.into_body(), NODE_STATUS_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| format!("its answer broke off: {error}"))?
        .to_bytes();
    Ok((status, body))
}

async fn probe_redis(shard: &Shard) -> RedisState {
    let client = match redis_client(shard) {
        Ok(Some(client)) => client,
        Ok(None) => return RedisState { address: "?".to_owned(), answered: Err("there is none".to_owned()) },
        Err(error) => return RedisState { address: "?".to_owned(), answered: Err(error.to_string()) },
    };
    let address = client.get_connection_info().addr().to_string();
    let answered = timeout(2 * REDIS_TIMEOUT, ping(&client)).await;
    let answered = answered
        .unwrap_or_else(|_| Err(format!("no answer in {} ms", REDIS_TIMEOUT.as_millis())))
        .map_err(|reason| format!("redis ({address}): {reason}"));
    RedisState { address, answered }
}

async fn ping(client: &redis::Client) -> Result<Duration, String> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(REDIS_TIMEOUT))
        .set_response_timeout(Some(REDIS_TIMEOUT));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| redis_trouble(&error))?;
    let started = Instant::now();
    redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| redis_trouble(&error))?;
    Ok(started.elapsed())
}

/// The last in a chain of causes: "connection refused" rather than "client error (Connect)".
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
