//! Asynchronous replicas of a shard: `c`, `d` and so on. They are never promoted here.

use crate::LocalError;
use crate::postgres::{self, Blueprint, Role, Server, Stage};
use crate::process::start_on_free_port;
use crate::server_pair::Site;

const LETTERS: [&str; 4] = ["c", "d", "e", "f"];

pub(crate) async fn start(site: Site<'_>, primary_port: u16) -> Result<Vec<Server>, LocalError> {
    let mut servers = Vec::new();
    for letter in LETTERS.iter().take(site.spec.more_replicas) {
        let blueprint = blueprint(site, letter, primary_port);
        let log = site.folder.log(&blueprint.name);
        postgres::base_backup(site.ground, &blueprint.name, primary_port, &blueprint.data, log.clone(), true)
            .await?;
        postgres::make_standby(site.ground, &blueprint.data)?;
        let prepare = |port| postgres::prepare(site.ground, &blueprint, port, log.clone());
        let (process, port) = start_on_free_port(&site.ground.ports, prepare).await?;
        servers.push(Server { process, port });
    }
    Ok(servers)
}

pub(crate) fn follow(site: Site<'_>, servers: &[Server], primary_port: u16) -> Result<(), LocalError> {
    for (server, letter) in servers.iter().zip(LETTERS) {
        let blueprint = blueprint(site, letter, primary_port);
        postgres::configure(site.ground, &blueprint, server.port)?;
        server.process.reload();
    }
    Ok(())
}

fn blueprint<'a>(site: Site<'a>, letter: &str, primary_port: u16) -> Blueprint<'a> {
    let Site { shard, folder, spec, .. } = site;
    Blueprint {
        name: format!("{shard}-postgres-{letter}"),
        data: folder.shard(shard).join(format!("postgres-{letter}")),
        role: Role::Replica { primary_port },
        synchronous_standby: None,
        stage: Stage::Serving,
        settings: &spec.replica_settings,
    }
}
