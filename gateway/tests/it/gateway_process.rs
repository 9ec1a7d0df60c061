//! A gateway process of a test's own, in front of whatever its `cluster.toml` names.

use std::future::ready;
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::http_call::{self, Answer};
use picopay_local::{eventually, eventually_within};
use picopay_shared::running_config::CONFIG_PATH;
use sha2::{Digest, Sha256};

use crate::api::Api;

/// Ends with the test, whatever becomes of it.
pub struct GatewayProcess {
    child: Child,
    pub api: Api,
    folder: tempfile::TempDir,
}

pub fn key_entry(name: &str, key: &str, scopes: &[&str], more: &str) -> String {
    let digest = hex::encode(Sha256::digest(key));
    format!("[[keys]]\nname = {name:?}\ndigest = \"sha256:{digest}\"\nscopes = {scopes:?}\n{more}\n")
}

pub fn cluster_of(node: &str) -> String {
    cluster_of_nodes(&[node])
}

pub fn cluster_of_nodes(nodes: &[&str]) -> String {
    format!(
        "internal_secret = \"an-internal-secret-for-this-test\"\n[[shards]]\nname = \"shard-1\"\nnodes = {nodes:?}\nprimary = \"host=none\"\n"
    )
}

impl GatewayProcess {
    pub async fn start(cluster_toml: &str, gateway_toml: &str) -> Self {
        let (command, folder, api) = prepare(cluster_toml, gateway_toml);
        Self::spawn(command, folder, api).await
    }

    /// Starts what [`prepare`] has prepared, and the test may have changed.
    pub async fn spawn(mut command: Command, folder: tempfile::TempDir, api: Api) -> Self {
        let child = command.spawn().unwrap();
        let process = Self { child, api, folder };
        let url = format!("{}/health", process.api.url);
        eventually("a gateway that answers", async || http_call::get(&url).await.is_ok()).await;
        process
    }

    pub fn terminate(&self) {
        self.send(Signal::SIGTERM);
    }

    /// Puts another `cluster.toml` in the place of the one there, as editors do. The gateway has to notice by itself.
    pub fn replace_cluster(&self, cluster_toml: &str) {
        let (new, file) = (self.folder.path().join("new"), self.folder.path().join("cluster.toml"));
        std::fs::write(&new, cluster_toml).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    pub fn replace_keys(&self, entries: &str) {
        let (new, file) = (self.folder.path().join("new"), self.folder.path().join("gateway.toml"));
        let listen = self.api.url.strip_prefix("http://").unwrap();
        let dev = key_entry("dev", "dev-key", &["admin"], "");
        std::fs::write(
            &new,
            format!("listen = \"{listen}\"\n{}{entries}\n{dev}", drain_unless_said(entries)),
        )
        .unwrap();
        std::fs::rename(new, file).unwrap();
    }

    pub fn hang_up(&self) {
        self.send(Signal::SIGHUP);
    }

    pub async fn running_config(&self, secret: &str) -> Answer {
        let bearer = format!("Bearer {secret}");
        self.api.call(Method::GET, CONFIG_PATH, &[("authorization", &bearer)], "").await
    }

    pub fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Its log, which is a pipe that the test asked for.
    pub fn take_stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("asked for")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let limit = Duration::from_secs(20);
        eventually_within(limit, "the gateway's end", || ready(self.child.try_wait().unwrap())).await
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A test that is not about it does not wait for it.
fn drain_unless_said(gateway_toml: &str) -> &'static str {
    if gateway_toml.contains("drain = ") { "" } else { "drain = \"0s\"\n" }
}

/// A gateway that is not started yet, on a free port, with the key `dev-key`.
pub fn prepare(cluster_toml: &str, gateway_toml: &str) -> (Command, tempfile::TempDir, Api) {
    let folder = tempfile::tempdir().unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = key_entry("dev", "dev-key", &["admin"], "");
    let files = [
        ("cluster.toml", cluster_toml.to_owned()),
        (
            "gateway.toml",
            format!("listen = \"{listen}\"\n{}{gateway_toml}\n{key}", drain_unless_said(gateway_toml)),
        ),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_picopay-gateway"));
    for ((name, text), option) in files.into_iter().zip(["--cluster", "--config"]) {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        command.arg(option).arg(file);
    }
    command.stdout(Stdio::null()).stderr(Stdio::inherit());
    (command, folder, Api::new(format!("http://{listen}"), "dev-key"))
}
