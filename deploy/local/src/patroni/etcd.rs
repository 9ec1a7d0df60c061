//! Where Patroni's members agree on who the primary is: one etcd, which no drill kills. In production there are three.

use std::sync::Arc;

use crate::LocalError;
use crate::folder::Folder;
use crate::postgres::Ground;
use crate::process::{Kind, Process, Recipe, plain_environment, start_on_free_port};
use crate::programs;

pub(super) async fn start(folder: &Folder, ground: &Ground) -> Result<(Process, u16), LocalError> {
    let program =
        programs::find_in_path("etcd", "apt-get install etcd-server, or deploy/patroni/install.sh")?;
    // Members of an etcd cluster talk to each other on a port of their own, even when there is only one.
    let peers = ground.ports.take()?;
    let data = folder.file("etcd").to_string_lossy().into_owned();
    let prepare = |port| {
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let arguments = [
            ("--name", "etcd"),
            ("--data-dir", &data),
            ("--listen-client-urls", &client_url),
            ("--advertise-client-urls", &client_url),
            ("--listen-peer-urls", &peer_url),
            ("--initial-advertise-peer-urls", &peer_url),
            ("--initial-cluster", &format!("etcd={peer_url}")),
        ];
        let recipe = Recipe {
            name: "etcd".to_owned(),
            program: program.clone(),
            arguments: arguments.iter().flat_map(|(name, value)| [(*name).into(), (*value).into()]).collect(),
            environment: plain_environment(),
            user: None,
            log: folder.log("etcd"),
            kind: Kind::Service { health: format!("http://127.0.0.1:{port}/health") },
        };
        Ok(Process::new(recipe, Arc::clone(&ground.guardian)))
    };
    start_on_free_port(&ground.ports, prepare).await
}
