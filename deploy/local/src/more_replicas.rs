//! Replicas of a shard beside the one that its commits wait for: `c`, `d` and so on. They follow on their own, and are never
//! promoted here.

use crate::LocalError;
use crate::folder::Folder;
use crate::postgres::{self, Blueprint, Ground, Role, Server, Stage};
use crate::process::start_on_free_port;
use crate::spec::ClusterSpec;

/// Letters after those of the pair.
const LETTERS: [&str; 4] = ["c", "d", "e", "f"];

/// Copies a shard's primary as often as the specification says, and starts the copies.
///
/// # Errors
/// When the primary does not answer, or a copy does not start.
pub(crate) async fn start(
    folder: &Folder,
    ground: &Ground,
    spec: &ClusterSpec,
    shard: &str,
    primary_port: u16,
) -> Result<Vec<Server>, LocalError> {
    let mut servers = Vec::new();
    for letter in LETTERS.iter().take(spec.more_replicas) {
        let blueprint = blueprint(folder, spec, shard, letter, primary_port);
        let log = folder.log(&blueprint.name);
        postgres::base_backup(ground, &blueprint.name, primary_port, &blueprint.data, log.clone(), true)
            .await?;
        postgres::make_standby(ground, &blueprint.data)?;
        let prepare = |port| postgres::prepare(ground, &blueprint, port, log.clone());
        let (process, port) = start_on_free_port(&ground.ports, prepare).await?;
        servers.push(Server { process, port });
    }
    Ok(servers)
}

/// Has all of them follow the primary on this port.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn follow(
    folder: &Folder,
    ground: &Ground,
    spec: &ClusterSpec,
    shard: &str,
    (servers, primary_port): (&[Server], u16),
) -> Result<(), LocalError> {
    for (server, letter) in servers.iter().zip(LETTERS) {
        let blueprint = blueprint(folder, spec, shard, letter, primary_port);
        postgres::configure(ground, &blueprint, server.port)?;
        server.process.reload();
    }
    Ok(())
}

fn blueprint<'a>(
    folder: &Folder,
    spec: &'a ClusterSpec,
    shard: &str,
    letter: &str,
    primary_port: u16,
) -> Blueprint<'a> {
    Blueprint {
        name: format!("{shard}-postgres-{letter}"),
        data: folder.shard(shard).join(format!("postgres-{letter}")),
        role: Role::Replica { primary_port },
        synchronous_standby: None,
        stage: Stage::Serving,
        settings: &spec.replica_settings,
    }
}
