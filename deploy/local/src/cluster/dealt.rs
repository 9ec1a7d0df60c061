//! The slots of a temporary cluster, dealt once on a machine by `picopay init` and copied from then on.

use std::path::Path;

use uuid::Uuid;

use super::LocalCluster;
use crate::LocalError;
use crate::folder::copy_folder;
use crate::spec::ClusterSpec;
use crate::template::{Dealt, Template};

impl LocalCluster {
    /// What this cluster is to be a copy of; `None` when its slots are to be dealt to it.
    pub(super) async fn dealt_template(&self) -> Result<Option<Dealt>, LocalError> {
        let Some(template) = Template::dealt(&self.folder, &self.ground, &self.spec) else {
            return Ok(None);
        };
        let fill = async |into: &Path| fill(self.spec.shards, into).await;
        let Some(template) = template.hold_or_make(fill).await? else { return Ok(None) };
        let cluster_id = Uuid::new_v4();
        self.write_cluster_id(cluster_id)?;
        Ok(Some(Dealt { template, cluster_id }))
    }
}

/// Puts the data of a cluster that nobody used into a folder. Returns the password of its superuser.
async fn fill(shards: usize, into: &Path) -> Result<String, LocalError> {
    let spec = ClusterSpec::default().with_shards(shards).without_redis().without_gateway();
    let original = LocalCluster::start_databases(spec).await?;
    original.describe_all().await?;
    original.prepare_databases().await?;
    for shard in original.shards() {
        shard.primary().stop().await?;
        copy_folder(&shard.servers.primary_data(original.site(shard.name())), &into.join(shard.name()))
            .await?;
    }
    let superuser = original.ground.secrets.superuser.clone();
    original.stop().await;
    Ok(superuser)
}
