//! The two PostgreSQL servers of a shard, and which of them is the primary now.
//!
//! They are called `a` and `b`, since their roles change. Each names the other as its synchronous standby: a promoted
//! standby acknowledges nothing before the other follows it, so no write is on one of them only.
//!
//! The primary is the one without a `standby.signal`, which PostgreSQL removes when it promotes. A replaced primary never
//! starts from its own data, which may hold what nobody else has. It is set aside, and a copy of the new primary takes its
//! place. `pg_rewind` would spare the copy, but needs more log all the time (`wal_log_hints`).

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use picopay_shared::cluster::Durability;
use tokio_postgres::Client;

use crate::LocalError;
use crate::folder::{Folder, copy_folder, remove, rename};
use crate::postgres::{self, Blueprint, Ground, Role, Server, Stage};
use crate::process::{Process, start_on_free_port};
use crate::spec::ClusterSpec;
use crate::template::Dealt;

mod beginning;

const LETTERS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// The server that is the primary now: `shard-1-postgres-b`.
    pub primary: String,
    /// Until the new primary takes statements, with the old one's orderly end. No write of a replicated shard is
    /// acknowledged before the next one.
    pub promoted_in: Duration,
    pub rebuilt_in: Duration,
}

#[derive(Debug)]
pub(crate) struct ServerPair {
    servers: [Server; 2],
    primary: AtomicUsize,
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub shard: &'a str,
    pub folder: &'a Folder,
    pub ground: &'a Ground,
    pub spec: &'a ClusterSpec,
    /// The template that a new shard is a copy of, if the whole cluster is.
    pub dealt: Option<&'a Dealt>,
}

impl ServerPair {
    pub(crate) async fn start(site: Site<'_>) -> Result<Self, LocalError> {
        site.begin().await
    }

    pub(crate) fn primary(&self) -> &Server {
        &self.servers[self.primary.load(Ordering::Acquire)]
    }

    pub(crate) fn replica(&self) -> &Server {
        &self.servers[1 - self.primary.load(Ordering::Acquire)]
    }

    pub(crate) fn primary_position(&self) -> usize {
        self.primary.load(Ordering::Acquire)
    }

    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.servers[0].port, self.servers[1].port]
    }

    /// The old primary is stopped first, or killed when it does not end in order: so the two never both take writes,
    /// and the replica gets the last of its log.
    ///
    /// # Errors
    /// When the replica does not run or does not follow a live primary, nothing was changed. When the new replica
    /// cannot be made, the new primary stays, and the old one's data stands aside.
    pub(crate) async fn fail_over(&self, site: Site<'_>) -> Result<Failover, LocalError> {
        let _alone = self.changing.lock().await;
        let started = Instant::now();
        let old_position = self.primary.load(Ordering::Acquire);
        let new_position = 1 - old_position;
        let (old, new) = (&self.servers[old_position], &self.servers[new_position]);
        // Now, while to fail costs nothing: a frozen replica runs, and never answers.
        let standby = site.connect_to_standby(new).await?;
        if old.process.is_running() && !may_leave(site.ground, old, &new.process).await {
            return Err(LocalError::Unfit(format!(
                "{} stays on {}: its replica {} does not follow it, and would be a step back",
                site.shard,
                old.process.name(),
                new.process.name()
            )));
        }
        old.process.stop().await?;
        postgres::promote(&standby, &new.process).await?;
        self.primary.store(new_position, Ordering::Release);
        let promoted_in = started.elapsed();
        self.rebuild(site, old_position).await?;
        let primary = new.process.name().to_owned();
        Ok(Failover { primary, promoted_in, rebuilt_in: started.elapsed().saturating_sub(promoted_in) })
    }

    pub(crate) fn primary_data(&self, site: Site<'_>) -> PathBuf {
        site.data(self.primary.load(Ordering::Acquire))
    }

    pub(crate) async fn back_up(&self, site: Site<'_>) -> Result<(), LocalError> {
        let primary = self.primary();
        let (name, log) = (primary.process.name(), site.folder.log(primary.process.name()));
        postgres::base_backup(site.ground, name, primary.port, &site.backup(), log, true).await
    }

    /// The primary goes on from the backup without a new timeline, since it has nothing of the log since.
    pub(crate) async fn restore_backup(&self, site: Site<'_>) -> Result<(), LocalError> {
        let _alone = self.changing.lock().await;
        let position = self.primary.load(Ordering::Acquire);
        let (primary, replica) = (self.primary(), self.replica());
        tokio::try_join!(primary.process.stop_without_keeping(), replica.process.stop_without_keeping())?;
        remove(&site.data(position))?;
        copy_folder(&site.backup(), &site.data(position)).await?;
        postgres::configure(site.ground, &site.blueprint(position, Role::Primary), primary.port)?;
        primary.process.start().await?;
        site.copy(primary, 1 - position, site.folder.is_temporary()).await?;
        let role = Role::Replica { primary_port: primary.port };
        postgres::configure(site.ground, &site.blueprint(1 - position, role), replica.port)?;
        replica.process.start().await?;
        postgres::wait_until_streaming(site.ground, primary, &replica.process, site.sync_state()).await
    }

    /// Promotes the replica and leaves the old primary as it is, so that both take writes. [`Self::replica`] is the old one
    /// until [`Self::replace_old`].
    pub(crate) async fn promote_beside(&self, site: Site<'_>) -> Result<(), LocalError> {
        let _alone = self.changing.lock().await;
        let new_position = 1 - self.primary.load(Ordering::Acquire);
        let new = &self.servers[new_position];
        let standby = site.connect_to_standby(new).await?;
        postgres::promote(&standby, &new.process).await?;
        self.primary.store(new_position, Ordering::Release);
        Ok(())
    }

    /// Kills the primary that [`Self::promote_beside`] left alive, and makes a new replica of it.
    ///
    /// # Errors
    /// The old one's data stands aside then.
    pub(crate) async fn replace_old(&self, site: Site<'_>) -> Result<(), LocalError> {
        let _alone = self.changing.lock().await;
        let old_position = 1 - self.primary.load(Ordering::Acquire);
        self.servers[old_position].process.kill().await?;
        self.rebuild(site, old_position).await
    }

    async fn rebuild(&self, site: Site<'_>, old: usize) -> Result<(), LocalError> {
        let (new_position, new, old_server) = (1 - old, &self.servers[1 - old], &self.servers[old]);
        site.set_aside(old)?;
        postgres::configure(site.ground, &site.blueprint(new_position, Role::Primary), new.port)?;
        new.process.reload();

        site.copy(new, old, site.folder.is_temporary()).await?;
        let role = Role::Replica { primary_port: new.port };
        postgres::configure(site.ground, &site.blueprint(old, role), old_server.port)?;
        old_server.process.start().await?;
        postgres::wait_until_streaming(site.ground, new, &old_server.process, site.sync_state()).await?;
        remove(&site.aside(old))
    }

    pub(crate) fn processes(&self) -> [Process; 2] {
        [self.primary().process.clone(), self.replica().process.clone()]
    }
}

impl<'a> Site<'a> {
    fn place(self) -> PathBuf {
        self.folder.shard(self.shard)
    }

    fn name(self, position: usize) -> String {
        format!("{}-postgres-{}", self.shard, LETTERS[position])
    }

    fn data(self, position: usize) -> PathBuf {
        self.place().join(format!("postgres-{}", LETTERS[position]))
    }

    fn aside(self, position: usize) -> PathBuf {
        self.data(position).with_extension("replaced")
    }

    fn is_synchronous(self) -> bool {
        self.spec.durability == Durability::Replicated
    }

    fn backup(self) -> PathBuf {
        self.place().join("backup")
    }

    fn sync_state(self) -> &'static str {
        if self.is_synchronous() { "sync" } else { "async" }
    }

    fn blueprint(self, position: usize, role: Role) -> Blueprint<'a> {
        Blueprint {
            name: self.name(position),
            data: self.data(position),
            role,
            synchronous_standby: self.is_synchronous().then(|| self.name(1 - position)),
            stage: Stage::Serving,
            settings: match role {
                Role::Primary => &self.spec.primary_settings,
                Role::Replica { .. } => &self.spec.replica_settings,
            },
        }
    }

    async fn start_server(self, position: usize, role: Role, stage: Stage) -> Result<Server, LocalError> {
        let blueprint = Blueprint { stage, ..self.blueprint(position, role) };
        let log = self.folder.log(&blueprint.name);
        let prepare = |port| postgres::prepare(self.ground, &blueprint, port, log.clone());
        let (process, port) = start_on_free_port(&self.ground.ports, prepare).await?;
        Ok(Server { process, port })
    }

    async fn connect_to_standby(self, standby: &Server) -> Result<Client, LocalError> {
        if !standby.process.is_running() {
            return Err(LocalError::Unfit(format!(
                "{} has nothing to fail over to: its replica {} does not run",
                self.shard,
                standby.process.name()
            )));
        }
        postgres::connect_to_administer(self.ground, standby).await
    }

    async fn copy(self, primary: &Server, position: usize, is_quick: bool) -> Result<(), LocalError> {
        let (data, name) = (self.data(position), self.name(position));
        let next = data.with_extension("next");
        let log = self.folder.log(&name);
        postgres::base_backup(self.ground, &name, primary.port, &next, log, is_quick).await?;
        postgres::make_standby(self.ground, &next)?;
        // Whole, or not at all.
        remove(&data)?;
        rename(&next, &data)
    }

    /// From now on nobody can start it by mistake.
    fn set_aside(self, position: usize) -> Result<(), LocalError> {
        let (data, aside) = (self.data(position), self.aside(position));
        remove(&aside)?;
        rename(&data, &aside)
    }

    fn is_standby(self, position: usize) -> bool {
        postgres::is_standby(&self.data(position))
    }

    /// If the owner was killed in the middle of a failover, neither is a standby. Then the promoted one is on the higher
    /// timeline, or the other is set aside already.
    fn find_primary(self) -> Result<usize, LocalError> {
        let candidates: Vec<usize> =
            (0..2).filter(|&position| self.data(position).is_dir() && !self.is_standby(position)).collect();
        match candidates[..] {
            [] => Err(LocalError::Unfit(format!(
                "{} holds no primary: begin anew with --fresh",
                self.place().display()
            ))),
            [only] => Ok(only),
            _ => {
                let timelines = [self.highest_timeline(0)?, self.highest_timeline(1)?];
                Ok(usize::from(timelines[1] > timelines[0]))
            }
        }
    }

    /// Log files start with their timeline, eight hexadecimal digits.
    fn highest_timeline(self, position: usize) -> Result<u32, LocalError> {
        let folder = self.data(position).join("pg_wal");
        let entries =
            fs::read_dir(&folder).map_err(LocalError::system(format!("read {}", folder.display())))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let timelines = names.filter_map(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
        Ok(timelines.max().unwrap_or(0))
    }

    /// Clusters were once kept in folders that were called after roles.
    fn rename_data_of_old_clusters(self) -> Result<(), LocalError> {
        for (old, position) in [("primary", 0), ("replica", 1)] {
            let (old, data) = (self.place().join(old), self.data(position));
            if old.is_dir() && !data.exists() {
                rename(&old, &data)?;
            }
        }
        Ok(())
    }
}

/// Whether nothing is lost when the replica takes over. If the primary does not answer, nothing was acknowledged since the
/// replica stopped following.
async fn may_leave(ground: &Ground, primary: &Server, replica: &Process) -> bool {
    let Ok(client) = postgres::connect_to_administer(ground, primary).await else { return true };
    postgres::sync_state(&client, replica).await.map_or(true, |state| state.is_some())
}
