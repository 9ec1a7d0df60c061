//! One member: a Patroni agent with its PostgreSQL, in namespaces of its own, so that it can die like a machine.
//!
//! The agent's PostgreSQL outlives it, so both are hard to kill at one moment. In a PID namespace the kernel kills
//! everything at once when the first process gets SIGKILL, as a power cut does.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::folder::{Folder, remove, write_private};
use crate::os_process::{children_of, command_line, kill_alone};
use crate::postgres::{Ground, SETTINGS};
use crate::process::{Kind, Process, Recipe, plain_environment};
use crate::{LocalError, http_call, programs};

/// The first process stays root's: a change of user would clear the order to die with the parent. It ends with the last
/// process of its namespace, not with the agent, which PostgreSQL outlives.
const INIT: &str =
    r#""$@" & wait $!; code=$?; while set -- /proc/[0-9]*; [ $# -gt 1 ]; do sleep 0.2; done; exit $code"#;

const ASK_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatroniSettings {
    /// In seconds. The longest part of every failover.
    pub ttl_s: u64,
    /// In seconds. A primary renews its office this often.
    pub loop_wait_s: u64,
    /// In seconds, at least 3. Patroni's rule: `loop_wait + 2 · retry_timeout <= ttl`, or a primary could go on after
    /// another one was elected.
    pub retry_timeout_s: u64,
    /// Whether a commit waits for a standby, also when there is none: `durability = "replicated"` needs it.
    pub is_synchronous: bool,
}

impl Default for PatroniSettings {
    fn default() -> Self {
        Self { ttl_s: 10, loop_wait_s: 2, retry_timeout_s: 3, is_synchronous: true }
    }
}

#[derive(Debug)]
pub struct Member {
    process: Process,
    name: String,
    data: PathBuf,
    config: PathBuf,
    port: u16,
    api_port: u16,
}

impl Member {
    pub(super) fn prepare(
        folder: &Folder,
        ground: &Ground,
        (shard, number): (&str, usize),
        etcd_port: u16,
        settings: PatroniSettings,
    ) -> Result<Self, LocalError> {
        let patroni =
            programs::find_in_path("patroni", "apt-get install patroni, or deploy/patroni/install.sh")?;
        let name = format!("{shard}-{number}");
        let home = folder.shard(shard);
        let (port, api_port) = (ground.ports.take()?, ground.ports.take()?);
        let data = home.join(format!("member-{number}"));
        let place = Place { name: &name, shard, port, api_port, etcd_port };
        let config = home.join(format!("{name}.yml"));
        let text = serde_json::to_string_pretty(&place.config(ground, &home, &data, settings));
        write_private(&config, &format!("{:#}\n", text.expect("plain data always serializes")))?;
        if let Some(user) = &ground.user {
            user.give(&config)?;
        }
        let recipe = Recipe {
            name: name.clone(),
            program: programs::find_in_path("unshare", "It is part of util-linux, on every Linux system.")?,
            arguments: isolated(ground, patroni.into(), config.clone().into()),
            environment: plain_environment(),
            user: None,
            log: folder.log(&name),
            // Its `/health` is 200 when PostgreSQL is up, whatever its part.
            kind: Kind::Service { health: format!("http://127.0.0.1:{api_port}/health") },
        };
        let process = Process::new(recipe, Arc::clone(&ground.guardian));
        Ok(Self { process, name, data, config, port, api_port })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub async fn start(&self) -> Result<(), LocalError> {
        // In a new namespace numbers are given out from 1 again: the process that a stale lock file names is likely to be
        // there, and to be something else. The file means nothing after a power cut.
        remove(&self.data.join("postmaster.pid"))?;
        self.process.start().await
    }

    pub async fn kill(&self) -> Result<(), LocalError> {
        self.process.kill().await
    }

    /// SIGKILL of the agent alone: its PostgreSQL lives on, and nobody looks after it. [`Self::kill`] ends that too.
    pub async fn kill_agent(&self) -> Result<(), LocalError> {
        // `unshare`, the first process of the namespace, and what that has started or inherited.
        let first = self.process.pid().into_iter().flat_map(children_of);
        let config = self.config.to_string_lossy();
        let agent = first
            .flat_map(children_of)
            .find(|&child| command_line(child).is_some_and(|line| line.contains(&*config)));
        let agent = agent.ok_or_else(|| LocalError::Unfit(format!("{} has no agent", self.name)))?;
        kill_alone(agent).await
    }

    pub(super) async fn leader_of_cluster(&self) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/cluster", self.api_port);
        let asked = tokio::time::timeout(ASK_WAIT, http_call::get(&url)).await;
        let cluster = asked.ok()?.ok()?.json();
        let leader = cluster["members"]
            .as_array()?
            .iter()
            .find(|member| member["role"] == "leader" && member["state"] == "running")?;
        Some(leader["name"].as_str()?.to_owned())
    }
}

/// `unshare … sh -c INIT sh [setpriv …] patroni config`.
fn isolated(ground: &Ground, patroni: OsString, config: OsString) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["--pid", "--fork", "--kill-child", "--ipc", "--mount-proc"].map(OsString::from).into();
    if ground.user.is_none() {
        // Whoever is not root may make namespaces in a user namespace of his own, where the system allows that.
        arguments.extend(["--user", "--map-current-user"].map(OsString::from));
    }
    arguments.extend(["/bin/sh", "-c", INIT, "picopay-member"].map(OsString::from));
    if let Some(user) = &ground.user {
        arguments.extend(
            ["setpriv", "--reuid", &user.name, "--regid", &user.gid().to_string(), "--clear-groups"]
                .map(OsString::from),
        );
    }
    arguments.extend([patroni, config]);
    arguments
}

struct Place<'a> {
    name: &'a str,
    shard: &'a str,
    port: u16,
    api_port: u16,
    etcd_port: u16,
}

impl Place<'_> {
    fn config(
        &self,
        ground: &Ground,
        home: &std::path::Path,
        data: &std::path::Path,
        settings: PatroniSettings,
    ) -> Value {
        let PatroniSettings { ttl_s, loop_wait_s, retry_timeout_s, is_synchronous } = settings;
        let (postgres, api) = (format!("127.0.0.1:{}", self.port), format!("127.0.0.1:{}", self.api_port));
        json!({
            "scope": self.shard,
            "name": self.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": format!("127.0.0.1:{}", self.etcd_port)},
            "bootstrap": {
                "dcs": {
                    "ttl": ttl_s,
                    "loop_wait": loop_wait_s,
                    "retry_timeout": retry_timeout_s,
                    "synchronous_mode": is_synchronous,
                    "synchronous_mode_strict": is_synchronous,
                    "postgresql": {"use_pg_rewind": true, "use_slots": true, "parameters": parameters()},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": postgres,
                "connect_address": postgres,
                "data_dir": data,
                "bin_dir": ground.programs.folder,
                "pgpass": home.join(format!("{}.pgpass", self.name)),
                "authentication": {
                    "superuser": {"username": "postgres", "password": ground.secrets.superuser},
                    "replication": {"username": "replicator", "password": ground.secrets.replicator},
                },
                "pg_hba": [
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
                // Without it a copy waits for the next checkpoint, minutes away.
                "basebackup": {"checkpoint": "fast"},
                // An old primary whose log cannot be rewound is copied anew.
                "remove_data_directory_on_rewind_failure": true,
                "remove_data_directory_on_diverged_timelines": true,
            },
            // Without a watchdog a frozen agent leaves its PostgreSQL a primary for a while. It cannot commit: its standbys
            // follow the new one.
            "watchdog": {"mode": "off"},
        })
    }
}

/// What every server of this crate runs with, but for what Patroni decides by itself.
fn parameters() -> Map<String, Value> {
    let decided = ["listen_addresses", "hot_standby"];
    let lines = SETTINGS.lines().filter(|line| !line.starts_with('#'));
    let mut all: Map<String, Value> = lines
        .filter_map(|line| line.split_once(" = "))
        .filter(|(name, _)| !decided.contains(name))
        .map(|(name, value)| (name.to_owned(), json!(value.trim_matches('\''))))
        .collect();
    all.insert("shared_buffers".to_owned(), json!("128MB"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_keep_patronis_rule() {
        let PatroniSettings { ttl_s, loop_wait_s, retry_timeout_s, .. } = PatroniSettings::default();
        assert!(loop_wait_s + 2 * retry_timeout_s <= ttl_s && retry_timeout_s >= 3);
    }

    #[test]
    fn members_run_with_the_settings_of_every_other_server() {
        let all = parameters();
        assert_eq!(
            (&all["fsync"], &all["lc_messages"], &all["max_connections"]),
            (&json!("on"), &json!("C"), &json!("100"))
        );
        assert!(!all.contains_key("listen_addresses"));
    }
}
