//! The configuration files of one cluster, as an operator would write them.

use std::fmt::Write as _;

use picopay_shared::cluster::Durability;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::certificates::{CALLER, Certificates};
use crate::secrets::{INTERNAL_FILE, PICOPAY_FILE, REDIS_FILE};
use crate::services_database::{DATABASE, ROLE};
use crate::spec::ApiKey;

#[derive(Debug, Clone)]
pub(crate) struct ShardEntry {
    pub name: String,
    pub nodes: Vec<String>,
    /// Of both servers, whatever their roles: those change, and the file stays.
    pub database_ports: [u16; 2],
    pub more_replicas: Vec<u16>,
}

pub(crate) fn cluster_toml(
    cluster_id: Uuid,
    shards: &[ShardEntry],
    redis_port: Option<u16>,
    durability: Durability,
    certificates: Option<&Certificates>,
) -> String {
    let id = cluster_id.to_string();
    let mut text = format!("{HEADER}cluster_id = {id:?}\ninternal_secret_file = {INTERNAL_FILE:?}\n");
    if let Some(own) = certificates {
        let [ca, cert, key] = own.names(CALLER);
        let _ = write!(text, "\n[tls]\nca_file = {ca:?}\ncert_file = {cert:?}\nkey_file = {key:?}\n");
    }
    for shard in shards {
        text.push('\n');
        text.push_str(&shard_toml(shard, redis_port, durability, certificates));
    }
    text
}

pub(crate) fn shard_toml(
    shard: &ShardEntry,
    redis_port: Option<u16>,
    durability: Durability,
    certificates: Option<&Certificates>,
) -> String {
    let durability = match durability {
        Durability::Replicated => "replicated",
        Durability::Local => "local",
    };
    let (name, nodes) = (&shard.name, &shard.nodes);
    // For the primary, whoever connects takes the server that takes writes; for the replica, the other one.
    let tls = certificates.map(|own| own.words(ROLE)).unwrap_or_default();
    let servers = |[first, second]: [u16; 2]| {
        format!("host=127.0.0.1,127.0.0.1 port={first},{second} dbname={DATABASE} user={ROLE}{tls}")
    };
    let [first, second] = shard.database_ports;
    let primary = servers([first, second]);
    let mut replicas = vec![servers([second, first])];
    replicas.extend(
        shard
            .more_replicas
            .iter()
            .map(|port| format!("host=127.0.0.1 port={port} dbname={DATABASE} user={ROLE}{tls}")),
    );
    let mut text = format!(
        "[[shards]]\nname = {name:?}\nnodes = {nodes:?}\nprimary = {primary:?}\nreplicas = {replicas:?}\n\
         password_file = {PICOPAY_FILE:?}\ndurability = {durability:?}\n"
    );
    match (redis_port, certificates) {
        (None, _) => {}
        (Some(port), None) => {
            let _ = writeln!(text, "redis = \"redis://127.0.0.1:{port}\"");
        }
        (Some(port), Some(own)) => {
            let [ca, cert, key] = own.names(ROLE);
            let _ = write!(
                text,
                "redis = \"rediss://127.0.0.1:{port}\"\nredis_password_file = {REDIS_FILE:?}\n\
                 redis_ca_file = {ca:?}\nredis_cert_file = {cert:?}\nredis_key_file = {key:?}\n"
            );
        }
    }
    text
}

pub(crate) fn patroni_cluster_toml(cluster_id: Uuid, shard: &str, ports: &[u16], node_port: u16) -> String {
    let id = cluster_id.to_string();
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let servers = format!("host={hosts} port={ports} dbname={DATABASE} user={ROLE}");
    format!(
        "{HEADER}cluster_id = {id:?}\ninternal_secret_file = {INTERNAL_FILE:?}\n\n[[shards]]\nname = {shard:?}\n\
         nodes = [\"http://127.0.0.1:{node_port}\"]\nprimary = \"{servers} target_session_attrs=read-write\"\n\
         replicas = [\"{servers} target_session_attrs=read-only\"]\npassword_file = {PICOPAY_FILE:?}\n"
    )
}

pub(crate) fn node_toml(shard: &str, port: u16, has_drain: bool, more: &str) -> String {
    let drain = drain(has_drain, more);
    format!("{HEADER}shard = {shard:?}\nlisten = \"127.0.0.1:{port}\"\n{drain}{more}")
}

/// `gateway.toml`. The keys come last: whatever `more` opens, `[[keys]]` closes.
pub(crate) fn gateway_toml(listen: &str, keys: &[ApiKey], has_drain: bool, more: &str) -> String {
    let drain = drain(has_drain, more);
    let mut text = format!("{HEADER}listen = {listen:?}\n{drain}{more}\n");
    for key in keys {
        let (name, digest, scopes) = (&key.name, hex::encode(Sha256::digest(&key.key)), &key.scopes);
        let _ =
            write!(text, "\n[[keys]]\nname = {name:?}\ndigest = \"sha256:{digest}\"\nscopes = {scopes:?}\n");
    }
    text
}

/// Nobody else sends requests to a cluster on this machine, so its end waits for none, unless somebody says so.
fn drain(has_drain: bool, more: &str) -> &'static str {
    if has_drain || more.contains("drain = ") { "" } else { "drain = \"0s\"\n" }
}

const HEADER: &str = "# Written at every start by picopay-local; changes here are lost.\n";

#[cfg(test)]
mod tests {
    use picopay_shared::cluster::Cluster;

    use super::*;

    #[test]
    fn the_cluster_file_is_one_that_every_component_reads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join(INTERNAL_FILE), format!("{}\n", "i".repeat(32))).unwrap();
        std::fs::write(folder.path().join(PICOPAY_FILE), "password\n").unwrap();
        let entry = |name: &str, port: u16| ShardEntry {
            name: name.to_owned(),
            nodes: vec![format!("http://127.0.0.1:{port}")],
            database_ports: [port + 1, port + 2],
            more_replicas: Vec::new(),
        };
        let text = cluster_toml(
            Uuid::from_u128(7),
            &[entry("shard-1", 10_100), entry("shard-2", 10_200)],
            Some(10_300),
            Durability::Local,
            None,
        );
        let file = folder.path().join("cluster.toml");
        std::fs::write(&file, text).unwrap();
        let cluster = Cluster::load(&file).unwrap();
        assert_eq!(cluster.cluster_id(), Some(Uuid::from_u128(7)));
        let shard = cluster.shard("shard-2").unwrap();
        assert_eq!(shard.nodes, ["http://127.0.0.1:10200"]);
        assert_eq!(shard.primary, "host=127.0.0.1,127.0.0.1 port=10201,10202 dbname=picopay user=picopay");
        assert_eq!(shard.replicas, ["host=127.0.0.1,127.0.0.1 port=10202,10201 dbname=picopay user=picopay"]);
        assert_eq!(shard.redis.as_deref(), Some("redis://127.0.0.1:10300"));
        assert_eq!(shard.durability, Durability::Local);
        assert_eq!(shard.password.as_ref().unwrap().expose(), "password");
        assert_eq!(cluster.internal_secret.expose(), "i".repeat(32));
    }
}
