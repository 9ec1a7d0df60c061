//! The keeper of the write gate. It finds the primary, looks at it every second, and opens the gate once a
//! commit of its own was confirmed by primary and standby.
//!
//! A promoted server is checked before its first charge, and must have what was acknowledged before
//! (`floor.rs`). When an operator degrades or restores the shard, all lanes learn it by another opening.
//! Strong reads depend on its findings too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use picopay_postgres::degradation;
use picopay_postgres::describe;
use picopay_shared::cluster::Durability;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::cache::Cache;
use crate::db::{ConnectError, Dedicated, Primary};
use crate::floor::{self, Acknowledged, Floors};
use crate::identity::{self, Identity, Unfit};
use crate::metrics::Metrics;
use crate::server_id::ServerId;
use crate::standby;
use crate::which_primary::{self, Choice, Said};
use crate::write_gate::{Opening, WriteGate};

/// How often an open gate checks that the primary answers and replicates.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a closed gate tries again: after a failover every charge waits for this.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// How long such a look may take. It reads a few rows in a millisecond. On an overloaded machine it waits for
/// its turn, and that must not stop writes.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often all servers of the connection string are asked while one is in use. Each time costs each of them
/// a login. A replaced primary that does not know it is used for at most this long.
const ASK_ALL_EVERY: Duration = Duration::from_secs(3);
/// The same while the gate is shut. Reads then depend on the other servers' answers, which must be no older
/// than this and a `connect_timeout`.
const ASK_ALL_EVERY_WHEN_SHUT: Duration = Duration::from_secs(1);
/// How old the other servers' answers may be for a strong read.
const OTHERS_GOOD_FOR: Duration = Duration::from_secs(4);

/// The database is not the one that this node was started for. No node may serve it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct WrongDatabase(pub String);

pub struct GateKeeper {
    pub gate: WriteGate,
    pub primary: Primary,
    pub shard_name: String,
    pub promised: Durability,
    pub floors: Arc<Floors>,
    /// The floors that other nodes, or this one before its start, left in Redis.
    pub cache: Cache,
    pub metrics: Arc<Metrics>,
}

enum Lost {
    WrongDatabase(WrongDatabase),
    NotReady(String),
    Cut(String),
    Changed { durability: Durability, reason: String },
}

impl From<tokio_postgres::Error> for Lost {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Cut(format!("the primary was lost: {}", describe(&error)))
    }
}

impl From<Unfit> for Lost {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::WrongDatabase(reason) => Self::WrongDatabase(WrongDatabase(reason)),
            Unfit::NoCluster | Unfit::Schema(_) => Self::NotReady(unfit.to_string()),
            Unfit::Lost(error) => error.into(),
        }
    }
}

enum Finding {
    Fit(Opening),
    Lacks {
        reason: String,
        /// Whether reads still see everything acknowledged, unless another server has taken over.
        is_whole: bool,
    },
}

/// A commit of the keeper's own that the standby must confirm like any charge. It is never given up while its
/// connection lives, because each one would leave a waiting backend behind.
struct Probe {
    server: ServerId,
    durability: Durability,
    running: JoinHandle<Result<(), String>>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.running.abort();
    }
}

struct Round {
    running: JoinHandle<Vec<Said>>,
}

impl Drop for Round {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The state that outlives a connection.
struct Watch<'a> {
    keeper: &'a GateKeeper,
    durability: Durability,
    probe: Option<Probe>,
    round: Option<Round>,
    /// The timeline of the last server that was promoted without what was acknowledged; logged once.
    passed_over: Option<u32>,
    cuts: u32,
    /// When all were asked last, and whether all others said that they take no writes.
    others: (Instant, bool),
}

impl GateKeeper {
    /// What was acknowledged last, as far as this node and Redis know. Redis may lack some.
    async fn floor(&self) -> Vec<Acknowledged> {
        let mut floor = self.floors.all();
        if let Some(cluster_id) = self.primary.expected().cluster_id() {
            let kept = self.cache.read_floors(cluster_id).await;
            floor.extend(kept.iter().filter_map(|bytes| Acknowledged::from_bytes(bytes)));
        }
        floor
    }

    pub async fn keep(self) -> WrongDatabase {
        let mut watch = Watch {
            keeper: &self,
            durability: self.promised,
            probe: None,
            round: None,
            passed_over: None,
            cuts: 0,
            others: (Instant::now(), false),
        };
        loop {
            match watch.find_and_keep().await {
                Lost::WrongDatabase(wrong) => return wrong,
                // The lanes have connections of their own, so one cut connection of the keeper's says nothing
                // about the shard.
                Lost::Cut(_) if watch.cuts < 2 => {}
                Lost::Cut(reason) | Lost::NotReady(reason) => {
                    self.primary.note_reads(Err(reason.clone()));
                    self.gate.explain(reason);
                    sleep(TRY_EVERY).await;
                }
                Lost::Changed { durability, reason } => {
                    self.gate.explain(reason);
                    watch.durability = durability;
                }
            }
        }
    }
}

impl Watch<'_> {
    async fn find_and_keep(&mut self) -> Lost {
        let said = self.ask_all().await;
        let server = match self.choose(&said) {
            Ok(server) => server,
            Err(reason) => {
                if let Some(wrong) = said.iter().find_map(Said::wrong_database) {
                    return Lost::WrongDatabase(WrongDatabase(wrong));
                }
                self.keeper.primary.forget_server();
                return Lost::NotReady(reason);
            }
        };
        if let Err(older) = self.keeper.primary.use_server(server) {
            self.keeper.primary.forget_server();
            return Lost::NotReady(older.to_string());
        }
        self.note_others(&said, server);
        let connection = match self.keeper.primary.connect("picopay-node gate", self.durability).await {
            Ok(connection) => connection,
            Err(ConnectError::Unfit(unfit)) => return unfit.into(),
            Err(error) => return Lost::NotReady(format!("the primary cannot be reached: {error}")),
        };
        loop {
            match self.look_once(&connection).await {
                Ok(()) => self.cuts = 0,
                Err(lost) => {
                    self.cuts += 1;
                    return lost;
                }
            }
            self.wait().await;
            if let Some(said) = self.finished_round().await {
                if let Some(reason) = self.reason_to_leave(&said, server) {
                    return Lost::NotReady(reason);
                }
                self.note_others(&said, server);
            }
        }
    }

    /// Waits for the next look; shorter while the gate is shut. A lane that closes the gate has it looked at
    /// once, because its reason may be one dropped connection.
    async fn wait(&mut self) {
        if self.keeper.gate.check().is_ok() {
            let _ = timeout(LOOK_EVERY, self.keeper.gate.closed()).await;
        } else if self.probe.is_none() {
            sleep(TRY_EVERY).await;
        }
        // The probe under way was waited for already.
    }

    async fn ask_all(&self) -> Vec<Said> {
        let floor = Arc::new(self.keeper.floor().await);
        which_primary::look_around(&self.keeper.primary, floor).await
    }

    fn choose(&mut self, said: &[Said]) -> Result<ServerId, String> {
        let choice = which_primary::choose(said);
        let is_split = matches!(choice, Choice::TwoWriters { .. });
        if is_split && self.keeper.metrics.two_primaries.get() == 0 {
            tracing::error!(?said, "two servers take writes on one timeline; neither gets any from here");
        }
        self.keeper.metrics.two_primaries.set(i64::from(is_split));
        match choice {
            Choice::Use(server) => {
                self.note_passed_over(said, server);
                Ok(server)
            }
            Choice::TwoWriters { timeline } => Err(format!(
                "two servers take writes on timeline {timeline}: stop the one that is not the primary"
            )),
            Choice::None(reasons) => Err(format!("no primary is found: {reasons}")),
        }
    }

    /// Raises the alarm for a server that was promoted without what was acknowledged, and is not used.
    fn note_passed_over(&mut self, said: &[Said], used: ServerId) {
        let lacking = said.iter().find_map(|one| match one {
            Said::Writes { server, .. } if server.timeline > used.timeline => Some(server),
            _ => None,
        });
        // While the gate is shut, the look decides.
        if self.keeper.gate.check().is_ok() {
            self.keeper.metrics.acknowledged_lost.set(i64::from(lacking.is_some()));
        }
        let Some(lacking) = lacking else { return };
        if self.passed_over.replace(lacking.timeline) != Some(lacking.timeline) {
            tracing::error!(
                timeline = lacking.timeline,
                used = used.timeline,
                "a server was promoted without what was acknowledged; the one before it still has its standby and stays \
                 in use: stop the promoted one"
            );
        }
    }

    /// Why the server in use must be left, from what all servers said.
    fn reason_to_leave(&mut self, said: &[Said], in_use: ServerId) -> Option<String> {
        let is_same =
            |server: &ServerId| server.started_us == in_use.started_us && server.timeline == in_use.timeline;
        // A server that is too busy for one more login is judged by its existing connection.
        let is_unheard = matches!(said.get(in_use.position), Some(Said::Unknown(_)));
        match self.choose(said) {
            Ok(found) if is_same(&found) => None,
            Ok(found) if is_unheard && found.timeline < in_use.timeline => None,
            Ok(_) => Some("the primary was replaced: looking for the new one".to_owned()),
            Err(_) if is_unheard && self.keeper.metrics.two_primaries.get() == 0 => None,
            Err(reason) => Some(reason),
        }
    }

    fn note_others(&mut self, said: &[Said], server: ServerId) {
        self.others = (Instant::now(), which_primary::are_others_quiet(said, server));
        for one in said {
            if let Said::Writes { server: other, .. } = one
                && other.timeline < server.timeline
            {
                self.keeper.primary.note_older(other.timeline);
            }
        }
    }

    /// Has all servers asked again when it is time, and returns their answers once they are there.
    async fn finished_round(&mut self) -> Option<Vec<Said>> {
        if let Some(round) = &mut self.round {
            if !round.running.is_finished() {
                return None;
            }
            let said = (&mut round.running).await;
            self.round = None;
            return said.ok();
        }
        let is_open = self.keeper.gate.check().is_ok();
        let every = if is_open { ASK_ALL_EVERY } else { ASK_ALL_EVERY_WHEN_SHUT };
        if self.others.0.elapsed() >= every {
            let (primary, floor) = (self.keeper.primary.clone(), Arc::new(self.keeper.floors.all()));
            let running = tokio::spawn(async move { which_primary::look_around(&primary, floor).await });
            self.round = Some(Round { running });
        }
        None
    }

    async fn look_once(&mut self, connection: &Dedicated) -> Result<(), Lost> {
        let look = timeout(LOOK_TIMEOUT, self.look(connection)).await;
        let seen = look.map_err(|_| Lost::NotReady("the primary does not answer".to_owned()))??;
        let (fit, is_whole) = match seen {
            Finding::Fit(opening) => (Ok(opening), true),
            Finding::Lacks { reason, is_whole } => (Err(reason), is_whole),
        };
        let opened = match fit {
            Ok(opening) if self.keeper.gate.check().as_ref() == Ok(&opening) => Ok(()),
            Ok(opening) => self.probe_for(opening).await,
            Err(reason) => Err(reason),
        };
        self.keeper.primary.note_reads(match &opened {
            Ok(()) => Ok(()),
            Err(reason) if is_whole => self.reads_without_standby(reason),
            Err(reason) => Err(reason.clone()),
        });
        if let Err(reason) = opened {
            self.keeper.gate.explain(reason);
        }
        Ok(())
    }

    /// The gate may be shut for want of a standby because that was promoted, with the clients. Then reads
    /// need the other servers' answers.
    fn reads_without_standby(&self, reason: &str) -> Result<(), String> {
        let (asked, are_quiet) = self.others;
        if are_quiet && asked.elapsed() <= OTHERS_GOOD_FOR {
            return Ok(());
        }
        Err(format!("{reason}; and another server of the shard does not say that it is no primary"))
    }

    async fn probe_for(&mut self, opening: Opening) -> Result<(), String> {
        let is_of = |probe: &Probe| probe.server == opening.server && probe.durability == opening.durability;
        self.probe = self.probe.take().filter(is_of);
        let mut probe = self.probe.take().unwrap_or_else(|| self.start_probe(&opening));
        // Usually this takes milliseconds, and the next look need not be waited for.
        match timeout(TRY_EVERY, &mut probe.running).await {
            Ok(Ok(Ok(()))) => {
                self.keeper.gate.open(opening);
                Ok(())
            }
            Ok(Ok(Err(reason))) => Err(reason),
            Ok(Err(_)) => Err("the probe was ended".to_owned()),
            Err(_) => {
                self.probe = Some(probe);
                Err("no standby confirms a commit".to_owned())
            }
        }
    }

    fn start_probe(&self, opening: &Opening) -> Probe {
        let (primary, durability) = (self.keeper.primary.clone(), opening.durability);
        let patience = primary.patience();
        let running = tokio::spawn(async move {
            let connected = primary.connect("picopay-node probe", durability).await;
            let connected = connected.map_err(|error| format!("the primary cannot be reached: {error}"))?;
            probe(&connected, patience).await
        });
        Probe { server: opening.server, durability, running }
    }

    /// Whether the database is ours and set up to keep what the shard promises.
    async fn look(&self, connection: &Dedicated) -> Result<Finding, Lost> {
        let client = connection.client();
        let Identity { cluster_id, generation, finished } =
            identity::check(client, self.keeper.primary.expected()).await?;
        // A shard that promises no more than it keeps cannot be degraded.
        let degraded = match self.keeper.promised {
            Durability::Replicated => degradation::read(client).await?,
            Durability::Local => None,
        };
        let durability = if degraded.is_some() { Durability::Local } else { self.keeper.promised };
        if durability != self.durability {
            let reason = match &degraded {
                Some(degraded) => format!("{} degraded the shard: {}", degraded.by, degraded.reason),
                None => "the shard was restored".to_owned(),
            };
            return Err(Lost::Changed { durability, reason });
        }
        // Once it is open here, what is acknowledged is here.
        if self.keeper.gate.check().is_err() {
            let floor = self.keeper.floor().await;
            let missing = floor::find_missing(client, &floor, generation).await?;
            self.keeper.metrics.acknowledged_lost.set(i64::from(missing.is_some()));
            if let Some(missing) = missing {
                let shard = &self.keeper.shard_name;
                return Ok(Finding::Lacks {
                    reason: format!(
                        "{missing} was acknowledged and is not in this database (timeline {}, generation {}): a standby \
                         without it was promoted, or an older copy restored. Bring back the server that has it, or \
                         accept the loss, until the generation is above that one's: \
                         `picopay shard accept-loss {shard} --reason TEXT`",
                        connection.server.timeline, generation.number
                    ),
                    is_whole: false,
                });
            }
        }
        let standby = standby::read(client).await?;
        if let Some(lacks) = standby.lacks_for(durability) {
            return Ok(Finding::Lacks { reason: lacks.to_owned(), is_whole: true });
        }
        let degraded = degraded.map(Arc::new);
        let server = connection.server;
        Ok(Finding::Fit(Opening { cluster_id, generation, server, durability, finished, degraded }))
    }
}

/// It writes only to the log, so that a probe that hangs holds no row.
async fn probe(connected: &Dedicated, patience: Duration) -> Result<(), String> {
    let (client, commits) = (connected.client(), &connected.commits);
    // The standby names may be gone since the look. A commit that waits for nobody proves nothing.
    if connected.durability == Durability::Replicated && !commits.wait_for_standby() {
        return Err("synchronous_standby_names is empty".to_owned());
    }
    let begun = async {
        client.batch_execute("BEGIN").await?;
        client.execute("SELECT pg_logical_emit_message(true, 'picopay', 'probe')", &[]).await?;
        connected.connection.take_warning();
        commits.commit(client).await
    };
    let committed = begun.await.map_err(|error| format!("a probe failed: {}", describe(&error)))?;
    commits.judge(&connected.connection, committed, patience).await.map_err(|error| error.to_string())?;
    Ok(())
}
