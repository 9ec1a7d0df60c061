//! Ends the transfers that nobody else ends: those whose gateway is gone, or whose recipient's shard did not answer.
//!
//! It takes up a transfer some seconds after it was begun, and then with pauses that grow. It leases it first, so the couriers of
//! other nodes keep off. Then it does the second and the third step, by the commands that gateways send, to whichever shards own
//! the slots by then. A step that was done already answers as it did the first time. So nothing depends on the lease: it saves
//! work.
//!
//! A shard that does not answer is asked for one transfer at a time, with pauses of its own, and those to other shards go on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use picopay_shard_client::{Decision, NotDone, ShardClient, ShardClientConfig, ShardError};
use picopay_shared::cluster::Cluster;
use picopay_shared::command::{Command, Operation};
use picopay_shared::money::Currency;
use picopay_shared::node_status::TRANSFERS;
use picopay_shared::origin::Origin;
use picopay_shared::reload::InForce;
use picopay_shared::slot::{SLOT_COUNT, Slot};
use prometheus::Registry;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::db::Dedicated;
use crate::metrics::Metrics;
use crate::service::Service;
use crate::store::transfers::{self, Leased, Postponed, Recipients};
use crate::store::{ReadError, column};

/// How often a courier looks whether a transfer waits for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Transfers of one round. More are in the next one.
const ROUND_MAX: i32 = 64;

/// Rounds without a pause: some hundred transfers a second.
const ROUNDS_MAX: usize = 8;

/// Transfers to one shard that are under way at once.
const AT_ONCE: usize = 16;

/// For how long nobody else takes up what is leased: longer than both steps take, with their retries.
const LEASE: &str = "15 seconds";

/// A shard that did not answer is left alone for this long, and for twice as long each time again.
const SHARD_PAUSE: Duration = Duration::from_secs(1);
const SHARD_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The same for one transfer that could not be ended.
const TRANSFER_PAUSE_MS: i64 = 2_000;
const TRANSFER_PAUSE_MAX_MS: i64 = 15_000;

/// For a question to the primary. Longer than a commit that waits for a busy standby.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often all unfinished transfers are counted. That reads an index of them.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// A client of all shards that nothing was asked of for so long is closed: it polls every node.
const CLIENT_IDLE: Duration = Duration::from_mins(1);

pub struct Courier {
    /// The node's current one. The courier ends with the node.
    service: Weak<ArcSwap<Service>>,
    in_force: Arc<InForce>,
    metrics: Arc<Metrics>,
    client: Option<Routes>,
    suspects: HashMap<String, Suspect>,
}

struct Routes {
    client: Arc<ShardClient>,
    cluster: Arc<Cluster>,
    used: Instant,
}

/// A shard that did not answer.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    until: Instant,
    pause: Duration,
}

/// Why a transfer was not ended.
struct Stopped {
    /// Whether the recipient's shard does not answer, so that others to it need not be tried now.
    is_silence: bool,
    reason: String,
}

impl Courier {
    pub fn new(service: Weak<ArcSwap<Service>>, in_force: Arc<InForce>, metrics: Arc<Metrics>) -> Self {
        Self { service, in_force, metrics, client: None, suspects: HashMap::new() }
    }

    pub async fn run(mut self) {
        let mut count_at = Instant::now();
        loop {
            sleep(LOOK_EVERY).await;
            let Some(service) = self.service.upgrade().map(|service| service.load_full()) else { break };
            self.take_over_changes().await;
            if !service.gate().check().is_ok_and(|opening| opening.finished >= TRANSFERS) {
                continue;
            }
            if let Err(reason) = self.look(&service).await {
                tracing::debug!(reason, "the courier stopped, and looks again");
            }
            if count_at <= Instant::now() {
                count_at = Instant::now() + COUNT_EVERY;
                if let Ok(Err(reason)) = timeout(PATIENCE, count(&service, &self.metrics)).await {
                    tracing::debug!(reason, "what is in transit was not counted");
                }
            }
            self.close_idle().await;
        }
        if let Some(Routes { client, .. }) = self.client.take() {
            client.close().await;
        }
    }

    async fn look(&mut self, service: &Service) -> Result<(), String> {
        if !timeout(PATIENCE, is_any_due(service)).await.map_err(|_| "no answer in time")?? {
            return Ok(());
        }
        let opening = service.gate().check()?;
        let database = service.primary().connect("picopay-node courier", opening.durability).await;
        let database = database.map_err(|error| error.to_string())?;
        let client = self.routes().await;
        self.probe_suspects(&database, &client).await?;
        for _ in 0..ROUNDS_MAX {
            let aside: Vec<String> = self.suspects.keys().cloned().collect();
            let recipients = Recipients::Without(slots_of(&client, &aside));
            let leased = lease(&database, ROUND_MAX, &recipients).await?;
            let is_last = leased.len() < usize::try_from(ROUND_MAX).expect("it is small");
            self.carry_all(&database, &client, leased).await?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// The client polls all nodes also while no transfer is due: by the certificates and the secret in force.
    async fn take_over_changes(&mut self) {
        let cluster = self.in_force.cluster();
        if let Some(routes) = &mut self.client
            && !Arc::ptr_eq(&routes.cluster, &cluster)
        {
            routes.client.show(&cluster.internal_secret);
            routes.client.take_over(&cluster).await;
            routes.cluster = cluster;
        }
    }

    /// The client of all shards, with the `cluster.toml` in force.
    async fn routes(&mut self) -> Arc<ShardClient> {
        self.take_over_changes().await;
        if let Some(routes) = &mut self.client {
            routes.used = Instant::now();
            return Arc::clone(&routes.client);
        }
        let cluster = self.in_force.cluster();
        // Its metrics are a gateway's: a node has its own.
        let client = ShardClient::start(&cluster, &ShardClientConfig::default(), &Registry::new());
        client.ask_all().await;
        self.client = Some(Routes { client: Arc::clone(&client), cluster, used: Instant::now() });
        client
    }

    async fn close_idle(&mut self) {
        if let Some(routes) = self.client.take_if(|routes| routes.used.elapsed() > CLIENT_IDLE) {
            routes.client.close().await;
        }
    }

    /// Asks each shard whose pause is over for one transfer. When that is ended, the others follow.
    async fn probe_suspects(&mut self, database: &Dedicated, client: &ShardClient) -> Result<(), String> {
        let now = Instant::now();
        let is_over = |suspect: &Suspect| suspect.until <= now;
        let over = self.suspects.iter().filter(|(_, suspect)| is_over(suspect));
        let over: Vec<String> = over.map(|(shard, _)| shard.clone()).collect();
        for shard in over {
            let slots = slots_of(client, std::slice::from_ref(&shard));
            let leased = lease(database, 1, &Recipients::Among(slots)).await?;
            // With none that is due now, the shard stays suspected: the next one that is due asks it alone.
            if leased.is_empty() {
                continue;
            }
            self.carry_all(database, client, leased).await?;
        }
        Ok(())
    }

    async fn carry_all(
        &mut self,
        database: &Dedicated,
        client: &ShardClient,
        leased: Vec<Leased>,
    ) -> Result<(), String> {
        let mut by_shard: BTreeMap<String, Vec<Leased>> = BTreeMap::new();
        for one in leased {
            let shard = client.shard_of(one.transfer.to_user_id.slot()).unwrap_or_default();
            by_shard.entry(shard).or_default().push(one);
        }
        let carried = join_all(by_shard.into_iter().map(async |(shard, leased)| {
            let carried = carry_to_one(client, &shard, leased).await;
            (shard, carried)
        }))
        .await;
        let mut postponed = Vec::new();
        for (shard, carried) in carried {
            if carried.is_silent {
                let pause = self.suspects.get(&shard).map_or(SHARD_PAUSE, |one| one.pause * 2);
                let pause = pause.min(SHARD_PAUSE_MAX);
                self.suspects.insert(shard, Suspect { until: Instant::now() + pause, pause });
            } else {
                self.suspects.remove(&shard);
            }
            let count = |word: &str, count: usize| {
                let counter = self.metrics.courier_tries.with_label_values(&[word]);
                counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
            };
            count("ended", carried.ended);
            count("postponed", carried.postponed.len());
            postponed.extend(carried.postponed);
        }
        if postponed.is_empty() {
            return Ok(());
        }
        let written = timeout(PATIENCE, transfers::postpone(database.client(), &postponed)).await;
        written.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.reason())
    }
}

#[derive(Default)]
struct Carried {
    ended: usize,
    postponed: Vec<Postponed>,
    /// Whether the recipients' shard gave no answer. Then the rest was not tried.
    is_silent: bool,
}

async fn carry_to_one(client: &ShardClient, shard: &str, leased: Vec<Leased>) -> Carried {
    let mut carried = Carried::default();
    for some in leased.chunks(AT_ONCE) {
        if carried.is_silent {
            // They wait aside with the shard's others, and are tried as soon as it answers.
            let why = format!("{shard} does not answer");
            carried.postponed.extend(some.iter().map(|one| postponed(one, 0, why.clone())));
            continue;
        }
        let ended = join_all(some.iter().map(|one| carry(client, one))).await;
        for (one, ended) in some.iter().zip(ended) {
            match ended {
                Ok(()) => carried.ended += 1,
                Err(Stopped { is_silence, reason }) => {
                    carried.is_silent |= is_silence;
                    tracing::info!(transfer = %one.transfer.id, tries = one.tries, reason, "a transfer waits");
                    let exponent = one.tries.saturating_sub(1).min(10);
                    let pause = (TRANSFER_PAUSE_MS << exponent).min(TRANSFER_PAUSE_MAX_MS);
                    carried.postponed.push(postponed(one, pause, reason));
                }
            }
        }
    }
    carried
}

fn postponed(leased: &Leased, pause_ms: i64, error: String) -> Postponed {
    Postponed { id: leased.transfer.id, user: leased.transfer.from_user_id, pause_ms, error }
}

/// The second step and the third.
async fn carry(client: &ShardClient, leased: &Leased) -> Result<(), Stopped> {
    let transfer = &leased.transfer;
    let credited = match client.write(command(leased, transfer.credit())).await {
        Ok(written) => match written.decision {
            Decision::Credited(credited) => credited,
            other => return Err(unexpected("its credit", &other)),
        },
        Err(error) => {
            let is_silence = match &error {
                ShardError::NotDone { why, .. } => !matches!(why, NotDone::SlotMoving | NotDone::Internal),
                ShardError::Unknown => true,
            };
            return Err(Stopped { is_silence, reason: told("the recipient's", &error) });
        }
    };
    match client.write(command(leased, transfer.settle(credited))).await {
        Ok(written) => match written.decision {
            Decision::Transferred { .. } => Ok(()),
            other => Err(unexpected("its end", &other)),
        },
        Err(error) => Err(Stopped { is_silence: false, reason: told("the sender's", &error) }),
    }
}

fn told(whose: &str, error: &ShardError) -> String {
    match error {
        ShardError::NotDone { why, shard, .. } => {
            let shard = shard.as_deref().unwrap_or("which is not known");
            format!("{whose} shard, {shard}, did nothing: {why:?}")
        }
        ShardError::Unknown => format!("{whose} shard gave no answer in time"),
    }
}

fn unexpected(what: &str, decision: &Decision) -> Stopped {
    let reason = format!("{what} was answered otherwise than a transfer's: {decision:?}");
    Stopped { is_silence: false, reason }
}

fn command(leased: &Leased, operation: Operation) -> Command {
    Command {
        fingerprint: operation.fingerprint(),
        operation,
        idempotency_key: Uuid::nil(),
        is_client_key: false,
        origin: Origin { request_id: "courier".to_owned(), traceparent: None },
        made_by: leased.made_by.clone(),
    }
}

fn slots_of(client: &ShardClient, shards: &[String]) -> Vec<i16> {
    if shards.is_empty() {
        return Vec::new();
    }
    // Slots whose owner is not known are those of the shard without a name, as in `carry_all`.
    let is_theirs = |slot: &Slot| shards.contains(&client.shard_of(*slot).unwrap_or_default());
    (0..SLOT_COUNT).filter_map(Slot::new).filter(is_theirs).map(Slot::as_i16).collect()
}

async fn lease(database: &Dedicated, most: i32, recipients: &Recipients) -> Result<Vec<Leased>, String> {
    let leased = timeout(PATIENCE, transfers::lease(database.client(), most, LEASE, recipients)).await;
    leased.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.reason())
}

async fn is_any_due(service: &Service) -> Result<bool, String> {
    let client = service.primary().for_task().await.map_err(|error| error.to_string())?;
    let asked = transfers::is_any_due(&client).await;
    client.give_back();
    asked.map_err(|error| error.reason())
}

async fn count(service: &Service, metrics: &Metrics) -> Result<(), String> {
    let client = service.primary().for_task().await.map_err(|error| error.to_string())?;
    let asked = async {
        let statement = client.prepare_cached(include_str!("sql/count_transfers.sql")).await?;
        client.query(&statement, &[]).await
    };
    let rows = asked.await;
    client.give_back();
    // A currency of which nothing is in transit any more has no row.
    metrics.transfers_pending.reset();
    metrics.in_transit_minor_units.reset();
    let mut oldest: f64 = 0.0;
    for row in rows.map_err(|error| error.to_string())? {
        let read = || {
            let currency = Currency::of_ledger(column(&row, 0)?)?;
            let (count, sum): (i64, Decimal) = (column(&row, 1)?, column(&row, 2)?);
            Ok::<_, ReadError>((currency, count, sum, column::<f64>(&row, 3)?))
        };
        let (currency, count, mut sum, seconds) = read().map_err(|error| error.reason())?;
        sum.rescale(currency.scale());
        let minor_units = sum.mantissa().to_i64().unwrap_or(i64::MAX);
        metrics.transfers_pending.with_label_values(&[currency.code()]).set(count);
        metrics.in_transit_minor_units.with_label_values(&[currency.code()]).set(minor_units);
        oldest = oldest.max(seconds);
    }
    metrics.transfer_pending_seconds_max.set(oldest);
    Ok(())
}
