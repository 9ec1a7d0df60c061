//! Shards that join and leave a running cluster, in an operator's order.
//!
//! Nobody is restarted. A new shard owns no slot, and one that owns any does not leave.

use std::path::Path;

use super::{LocalCluster, SHARDS_MAX, too_many_shards};
use crate::LocalError;
use crate::config_files::{cluster_toml, shard_toml};
use crate::folder::{remove, replace, write};
use crate::services::prepare_join;
use crate::shard::LocalShard;

const NAME_MAX: usize = 32;

impl LocalCluster {
    pub async fn add_shard(&self) -> Result<&LocalShard, LocalError> {
        let taken: Vec<String> = self.shards().iter().map(|shard| shard.name().to_owned()).collect();
        let names = (1..).map(|number| format!("shard-{number}"));
        let free =
            names.into_iter().find(|name| !taken.contains(name)).expect("there is always a next number");
        self.add_shard_named(&free).await
    }

    /// Waits until all its parts are ready. It owns no slot.
    ///
    /// # Errors
    /// When something did not come up, the cluster is as it was, and the name may be tried again.
    pub async fn add_shard_named(&self, name: &str) -> Result<&LocalShard, LocalError> {
        let _alone = self.changing.lock().await;
        self.check_new_name(name)?;
        if self.shards.count() == SHARDS_MAX {
            return Err(too_many_shards());
        }
        let started = LocalShard::start_databases(self.site(name)).await?;
        let shard = &self.shards[self.shards.push(started)];
        if let Err(error) = self.join(shard).await {
            // What went wrong first is what matters.
            if let Err(error) = self.take_back(shard).await {
                tracing::warn!(%error, shard = name, "a shard that could not join is not all gone");
            }
            return Err(error);
        }
        Ok(shard)
    }

    /// Takes a shard's entry, processes and databases away.
    ///
    /// # Errors
    /// When it owns a slot, one is on its way to it, or moved rows are not purged: then nothing was changed.
    pub async fn remove_shard(&self, name: &str) -> Result<(), LocalError> {
        let _alone = self.changing.lock().await;
        let members = self.shards();
        let Some(shard) = members.iter().find(|shard| shard.name() == name) else {
            let names: Vec<&str> = members.iter().map(|shard| shard.name()).collect();
            return Err(LocalError::Unfit(format!(
                "there is no shard {name:?} here, only {}",
                names.join(", ")
            )));
        };
        refuse_if_needed(shard).await?;
        self.take_back(shard).await?;
        remove(&self.folder.shard(name))
    }

    pub fn shard_toml(&self, shard: &LocalShard) -> Option<String> {
        let certificates = self.ground.secrets.certificates.as_ref();
        Some(shard_toml(&shard.entry()?, self.redis_port(), self.spec.durability, certificates))
    }

    /// Writes `cluster.toml` anew, in one step: somebody may be reading it.
    pub(super) fn write_cluster_file(&self) -> Result<(), LocalError> {
        let entries: Vec<_> = self.shards().iter().filter_map(|shard| shard.entry()).collect();
        let id = *self.cluster_id.get().expect("it is known before the first file is written");
        let text = |entries: &[_]| {
            let certificates = self.ground.secrets.certificates.as_ref();
            cluster_toml(id, entries, self.redis_port(), self.spec.durability, certificates)
        };
        replace(&self.cluster_file(), &text(&entries))?;
        for shard in self.shards() {
            for (file, own) in shard.own_cluster_files() {
                let mut entries = entries.clone();
                entries
                    .iter_mut()
                    .filter(|entry| entry.name == own.name)
                    .for_each(|entry| *entry = own.clone());
                replace(&self.folder.file(&file), &text(&entries))?;
            }
        }
        Ok(())
    }

    /// Makes a shard a member whose joining was not completed, if it was not.
    pub(super) async fn finish_joining(&self, shard: &LocalShard) -> Result<(), LocalError> {
        let mark = self.folder.joining_mark(shard.name());
        if !mark.is_file() {
            return Ok(());
        }
        // It may be done already: a second time changes nothing.
        let join = prepare_join(&self.folder, &self.ground.guardian, shard.name())?;
        join.spawn()?;
        join.wait_until_done().await?;
        remove(&mark)
    }

    async fn join(&self, shard: &LocalShard) -> Result<(), LocalError> {
        write(&self.folder.joining_mark(shard.name()), "")?;
        self.write_members()?;
        let ports = self.describe(shard).await?;
        self.write_cluster_file()?;
        tokio::try_join!(self.start_nodes(shard, ports), self.finish_joining(shard))?;
        self.wait_for_nodes(shard).await?;
        self.wait_for_gateway().await
    }

    async fn take_back(&self, shard: &LocalShard) -> Result<(), LocalError> {
        shard.leave();
        self.write_members()?;
        self.write_cluster_file()?;
        let told = self.wait_for_gateway().await;
        shard.dismiss_nodes().await?;
        self.stop_databases(shard).await;
        told
    }

    fn write_members(&self) -> Result<(), LocalError> {
        let names: Vec<String> = self.shards().iter().map(|shard| shard.name().to_owned()).collect();
        self.folder.write_layout(&names)
    }

    fn check_new_name(&self, name: &str) -> Result<(), LocalError> {
        let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let unfit = |text: String| Err(LocalError::Unfit(text));
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_name) {
            return unfit(format!(
                "{name:?} is no name for a shard here: 1 to {NAME_MAX} lower-case letters, digits and dashes"
            ));
        }
        if self.shards().iter().any(|shard| shard.name() == name) {
            return unfit(format!("there is a shard {name} already"));
        }
        if !Path::new(&self.cluster_file()).is_file() {
            return unfit("only a cluster with services can be joined".to_owned());
        }
        Ok(())
    }

    fn redis_port(&self) -> Option<u16> {
        self.redis.as_ref().map(|(_, port)| *port)
    }
}

async fn refuse_if_needed(shard: &LocalShard) -> Result<(), LocalError> {
    let name = shard.name();
    let client = shard.connect_primary().await?;
    let sql = "SELECT (SELECT count(*) FROM slot_owner WHERE state IN ('owned', 'importing')), \
                      EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM transactions)";
    let row = client.query_one(sql, &[]).await.map_err(LocalError::postgres("count the slots"))?;
    let (slots, has_rows): (i64, bool) = (row.get(0), row.get(1));
    let reason = if slots > 0 {
        format!(
            "{name} owns {slots} slots, or they are on their way to it: `picopay shard drain {name}` moves them away"
        )
    } else if has_rows {
        format!("{name} still has the rows of slots that were moved away: `picopay slots purge` deletes them")
    } else {
        return Ok(());
    };
    Err(LocalError::Unfit(reason))
}
