//! How the two servers of a shard begin: made new, copied from a template, or started again from their own data.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use uuid::Uuid;

use super::{ServerPair, Site};
use crate::LocalError;
use crate::folder::{copy_folder, remove, write};
use crate::postgres::{self, Role, Server, Stage};
use crate::template::{Dealt, Held, Template};

impl Site<'_> {
    pub(super) async fn begin(self) -> Result<ServerPair, LocalError> {
        let made = self.place().join("made");
        // Half of a shard is worth nothing: the slots are dealt out when all are complete.
        if made.is_file() {
            return self.start_again().await;
        }
        let (primary, replica) = if let Some(Dealt { template, cluster_id }) = self.dealt {
            self.start_copies(template, Some(*cluster_id)).await?
        } else if let Some(template) = self.empty_template().await? {
            self.start_copies(&template, None).await?
        } else {
            self.start_new().await?
        };
        write(&made, "")?;
        Ok(pair([primary, replica], 0))
    }

    async fn start_new(self) -> Result<(Server, Server), LocalError> {
        let primary = self.make_primary().await?;
        postgres::run_founding_sql(self.ground, &primary, &self.spec.founding_sql).await?;
        let role = Role::Replica { primary_port: primary.port };
        self.copy(&primary, 1, true).await?;
        let replica = self.start_server(1, role, Stage::Making).await?;
        postgres::wait_until_streaming(self.ground, &primary, &replica.process, self.sync_state()).await?;
        let blueprints = (self.blueprint(0, Role::Primary), self.blueprint(1, role));
        tokio::try_join!(
            postgres::begin_to_serve(self.ground, &blueprints.0, &primary),
            postgres::begin_to_serve(self.ground, &blueprints.1, &replica)
        )?;
        Ok((primary, replica))
    }

    /// The template that this shard is to be a copy of, if it is.
    async fn empty_template(self) -> Result<Option<Held>, LocalError> {
        let Some(template) = Template::empty(self.folder, self.ground, self.spec, self.shard) else {
            return Ok(None);
        };
        let fill = async |into: &Path| {
            let primary = self.make_primary().await?;
            primary.process.stop().await?;
            copy_folder(&self.data(0), &into.join(self.shard)).await?;
            Ok(self.ground.secrets.superuser.clone())
        };
        template.hold_or_make(fill).await
    }

    /// Two copies of a server that ended in order are a primary and its standby. Nothing waits for the disk, as when it is
    /// made.
    async fn start_copies(
        self,
        template: &Held,
        cluster_id: Option<Uuid>,
    ) -> Result<(Server, Server), LocalError> {
        postgres::make_place(self.ground, &self.place())?;
        let (data, original) = ([self.data(0), self.data(1)], template.data(self.shard));
        tokio::try_join!(copy_folder(&original, &data[0]), copy_folder(&original, &data[1]))?;
        postgres::make_standby(self.ground, &data[1])?;
        let primary = self.start_server(0, Role::Primary, Stage::Serving).await?;
        postgres::make_its_own(self.ground, &primary, &template.superuser, cluster_id).await?;
        postgres::run_founding_sql(self.ground, &primary, &self.spec.founding_sql).await?;
        let role = Role::Replica { primary_port: primary.port };
        let replica = self.start_server(1, role, Stage::Serving).await?;
        postgres::wait_until_streaming(self.ground, &primary, &replica.process, self.sync_state()).await?;
        Ok((primary, replica))
    }

    /// A primary that nobody follows, with its roles and its database.
    async fn make_primary(self) -> Result<Server, LocalError> {
        let name = self.name(0);
        postgres::initdb(self.ground, &name, &self.data(0), self.folder.log(&name)).await?;
        let primary = self.start_server(0, Role::Primary, Stage::Making).await?;
        postgres::create_roles(self.ground, &primary).await?;
        Ok(primary)
    }

    async fn start_again(self) -> Result<ServerPair, LocalError> {
        self.rename_data_of_old_clusters()?;
        let first = self.find_primary()?;
        let second = 1 - first;
        let primary = self.start_server(first, Role::Primary, Stage::Serving).await?;
        if !self.is_standby(second) {
            self.copy(&primary, second, self.folder.is_temporary()).await?;
        }
        let role = Role::Replica { primary_port: primary.port };
        let replica = self.start_server(second, role, Stage::Serving).await?;
        postgres::wait_until_streaming(self.ground, &primary, &replica.process, self.sync_state()).await?;
        remove(&self.aside(second))?;
        Ok(pair(if first == 0 { [primary, replica] } else { [replica, primary] }, first))
    }
}

fn pair(servers: [Server; 2], first: usize) -> ServerPair {
    ServerPair { servers, primary: AtomicUsize::new(first), changing: tokio::sync::Mutex::default() }
}
