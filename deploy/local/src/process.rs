//! One process of the cluster: to watch, end, kill, freeze and start again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::LocalError;
use crate::database_user::DatabaseUser;
use crate::guardian::{Ending, Guardian};
use crate::os_process::{KILL_WAIT, POLL, children_of, is_alive, send, wait_for};
use crate::ports::Ports;
use crate::{eventually, http_call, redis_ping};

/// A debug build on a busy machine is up in 5 s. Crash recovery after a load test takes the longest.
const START_WAIT: Duration = Duration::from_mins(1);

/// Longer than a service's longest request, and than PostgreSQL's last checkpoint.
const STOP_WAIT: Duration = Duration::from_secs(15);

/// More than a log and small files have, and next to nothing of a WAL file.
const FULL_DISK_BYTES: u64 = 256 * 1024;

const TAIL_BYTES: u64 = 32 * 1024;

/// Waits until the parent has told the guardian, then becomes the program. If the parent dies before, the pipe is empty and
/// nothing starts.
const LAUNCHER: &str = r#"read -r go || exit 1; exec "$@" < /dev/null"#;

#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Everything it gets of this process's environment goes through here.
    pub environment: BTreeMap<OsString, OsString>,
    pub user: Option<DatabaseUser>,
    pub log: PathBuf,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Postgres {
        data: PathBuf,
    },
    Redis {
        port: u16,
        is_tls: bool,
    },
    /// Ready when this URL answers 200.
    Service {
        health: String,
    },
    Tool,
}

/// A clone is another handle.
///
/// [`Process::start`] brings it back with the same configuration and on the same port.
#[derive(Debug, Clone)]
pub struct Process(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    recipe: Recipe,
    guardian: Arc<Guardian>,
    /// In place of the recipe's program, from the next start on.
    replacement: Mutex<Option<PathBuf>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    died: Option<ExitStatus>,
    log_start: u64,
    frozen_children: Vec<u32>,
}

impl Process {
    pub(crate) fn new(recipe: Recipe, guardian: Arc<Guardian>) -> Self {
        Self(Arc::new(Shared { recipe, guardian, replacement: Mutex::default(), state: Mutex::default() }))
    }

    pub fn name(&self) -> &str {
        &self.0.recipe.name
    }

    pub fn pid(&self) -> Option<u32> {
        let mut state = self.state();
        self.reap(&mut state);
        state.child.as_ref().map(Child::id)
    }

    /// Whether it runs. A frozen process does.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    pub fn died(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        self.reap(&mut state);
        state.died
    }

    pub fn log_file(&self) -> &Path {
        &self.0.recipe.log
    }

    pub fn log_tail(&self, lines: usize) -> String {
        let start = self.state().log_start;
        let text = read_end(&self.0.recipe.log, start).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Its next start is of this program: another release of the same, with the same configuration.
    pub fn replace_program(&self, program: impl Into<PathBuf>) {
        *self.0.replacement.lock().unwrap_or_else(PoisonError::into_inner) = Some(program.into());
    }

    fn program(&self) -> PathBuf {
        let replacement = self.0.replacement.lock().unwrap_or_else(PoisonError::into_inner);
        replacement.as_ref().unwrap_or(&self.0.recipe.program).clone()
    }

    pub async fn start(&self) -> Result<(), LocalError> {
        if self.is_running() {
            return Ok(());
        }
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// A service finishes what it accepted; PostgreSQL does its "fast" shutdown. Kills it if it takes too long.
    pub async fn stop(&self) -> Result<(), LocalError> {
        let signal = match self.0.recipe.kind {
            Kind::Postgres { .. } => Signal::SIGINT,
            Kind::Redis { .. } | Kind::Service { .. } | Kind::Tool => Signal::SIGTERM,
        };
        self.end_with(signal).await
    }

    /// Tells a service to end, and kills nobody.
    ///
    /// # Errors
    /// When it has not ended after `limit`.
    pub async fn drain(&self, limit: Duration) -> Result<(), LocalError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        send(pid, Signal::SIGTERM);
        if !wait_for(limit, || !self.is_running()).await {
            return Err(self.not_ready(limit, "it was told to end and goes on"));
        }
        self.forget(pid);
        Ok(())
    }

    /// Ends PostgreSQL without a checkpoint, but with its children: for data that nobody will read again.
    pub(crate) async fn stop_without_keeping(&self) -> Result<(), LocalError> {
        match self.0.recipe.kind {
            Kind::Postgres { .. } => self.end_with(Signal::SIGQUIT).await,
            Kind::Redis { .. } | Kind::Service { .. } | Kind::Tool => self.stop().await,
        }
    }

    /// SIGKILL, and waits until it is gone; of PostgreSQL, all its children too.
    pub async fn kill(&self) -> Result<(), LocalError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // Stopped first, so that it makes no child while its children are counted.
        send(pid, Signal::SIGSTOP);
        let children = self.children_of(pid);
        send(pid, Signal::SIGKILL);
        for &child in &children {
            send(child, Signal::SIGKILL);
        }
        let is_gone = || !self.is_running() && !children.iter().any(|&child| is_alive(child));
        let ended = wait_for(KILL_WAIT, is_gone).await;
        self.forget(pid);
        if ended { Ok(()) } else { Err(self.not_ready(KILL_WAIT, "it does not end even when killed")) }
    }

    /// SIGSTOP, of PostgreSQL to all its children too: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        let Some(pid) = self.pid() else { return };
        send(pid, Signal::SIGSTOP);
        let children = self.children_of(pid);
        for &child in &children {
            send(child, Signal::SIGSTOP);
        }
        self.state().frozen_children = children;
    }

    pub fn thaw(&self) {
        let Some(pid) = self.pid() else { return };
        for child in std::mem::take(&mut self.state().frozen_children) {
            send(child, Signal::SIGCONT);
        }
        send(pid, Signal::SIGCONT);
    }

    /// Limits its files to 256 kB, as if its disk was full: PostgreSQL can write no WAL file, while its log goes on. It
    /// ignores the signal that comes with the error (SIGXFSZ, `src/backend/postmaster/postmaster.c`).
    pub fn fill_disk(&self) -> Result<(), LocalError> {
        self.limit_files(&FULL_DISK_BYTES.to_string())
    }

    /// Gives it the whole disk again. What has ended over it is to be started.
    pub fn free_disk(&self) -> Result<(), LocalError> {
        self.limit_files("unlimited")
    }

    pub fn reload(&self) {
        if let Some(pid) = self.pid() {
            send(pid, Signal::SIGHUP);
        }
    }

    /// Asks a node or a gateway to read its files again, until it says that its `cluster.toml` is the one in force.
    ///
    /// # Panics
    /// When it does not take the file, or does not run.
    pub async fn take_over_cluster_file(&self) {
        let unchanged = || {
            let log = self.log_tail(usize::MAX);
            let is_said = |line: &&str| line.contains("cluster.toml") && line.contains("nothing has changed");
            log.lines().rfind(is_said).map(str::to_owned)
        };
        let before = unchanged();
        eventually("the cluster.toml on disk is in force", async || {
            self.reload();
            let now = unchanged();
            now.is_some() && now != before
        })
        .await;
    }

    pub(crate) fn spawn(&self) -> Result<(), LocalError> {
        let (Shared { recipe, guardian, .. }, program) = (&*self.0, self.program());
        let log = open_log(&recipe.log)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LAUNCHER, "picopay-launcher"]).arg(program).args(&recipe.arguments);
        // Its own process group: Ctrl-C reaches the owner only, which then ends all in order.
        command.env_clear().envs(&recipe.environment).current_dir("/").process_group(0);
        let stdout = log.try_clone().map_err(LocalError::system("open a log twice"))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        command.stdin(Stdio::piped()).stdout(stdout).stderr(log);
        if let Some(user) = &recipe.user {
            user.apply_to(&mut command);
        }
        let mut child = command.spawn().map_err(LocalError::system(format!("start {}", recipe.name)))?;
        let ending = match recipe.kind {
            Kind::Postgres { .. } => Ending::Postgres,
            Kind::Redis { .. } | Kind::Service { .. } | Kind::Tool => Ending::Plain,
        };
        // If the guardian cannot be told, the pipe closes unwritten and the launcher ends.
        guardian.watch(child.id(), ending)?;
        let mut pipe = child.stdin.take().expect("the pipe was asked for above");
        // Fails only when the launcher is gone, and then the exit status tells more than this would.
        let _ = pipe.write_all(b"go\n");
        tracing::debug!(name = recipe.name, pid = child.id(), "started");
        *self.state() = State { child: Some(child), died: None, log_start, frozen_children: Vec::new() };
        Ok(())
    }

    pub(crate) async fn wait_until_ready(&self) -> Result<(), LocalError> {
        let started = Instant::now();
        while started.elapsed() < START_WAIT {
            if self.is_ready().await {
                return Ok(());
            }
            if let Some(status) = self.died() {
                return Err(self.ended(status));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.not_ready(START_WAIT, "it does not answer"))
    }

    pub(crate) async fn wait_until_done(&self) -> Result<(), LocalError> {
        self.wait_until_done_within(START_WAIT).await
    }

    pub(crate) async fn wait_until_done_within(&self, limit: Duration) -> Result<(), LocalError> {
        let is_done = wait_for(limit, || !self.is_running()).await;
        match self.died() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.ended(status)),
            None if is_done => Err(LocalError::Unfit(format!("{} was stopped", self.name()))),
            None => {
                self.kill().await?;
                Err(self.not_ready(limit, "it takes too long"))
            }
        }
    }

    pub(crate) fn not_ready(&self, waited: Duration, reason: &str) -> LocalError {
        LocalError::NotReady {
            name: self.name().to_owned(),
            waited_s: waited.as_secs(),
            reason: reason.to_owned(),
            log: self.log_tail(SHOWN_LINES),
        }
    }

    pub(crate) fn ended(&self, status: ExitStatus) -> LocalError {
        let (name, log) = (self.name().to_owned(), self.log_tail(SHOWN_LINES));
        // In the words of PostgreSQL, of Redis and of the standard library; and of a PostgreSQL that speaks German.
        let lower = log.to_lowercase();
        let words = ["address already in use", "adresse wird bereits verwendet"];
        if words.iter().any(|words| lower.contains(words)) {
            return LocalError::PortTaken { name };
        }
        LocalError::Ended { name, status, log }
    }

    async fn is_ready(&self) -> bool {
        match &self.0.recipe.kind {
            Kind::Postgres { data } => {
                self.pid().is_some_and(|pid| lock_file_says_ready(&data.join("postmaster.pid"), pid))
            }
            Kind::Redis { port, is_tls } => redis_ping::answers(*port, *is_tls).await,
            Kind::Service { health } => http_call::get(health).await.is_ok_and(|answer| answer.status == 200),
            Kind::Tool => true,
        }
    }

    async fn end_with(&self, signal: Signal) -> Result<(), LocalError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        send(pid, signal);
        // Frozen, it would never hear the signal.
        self.thaw();
        if !wait_for(STOP_WAIT, || !self.is_running()).await {
            tracing::warn!(name = self.name(), "did not end in time and is killed");
            return self.kill().await;
        }
        self.forget(pid);
        Ok(())
    }

    fn forget(&self, pid: u32) {
        self.state().died = None;
        // It fails when the guardian has ended, which then has nothing to forget.
        let _ = self.0.guardian.forget(pid);
    }

    fn reap(&self, state: &mut State) {
        let Some(child) = state.child.as_mut() else { return };
        if let Ok(Some(status)) = child.try_wait() {
            let _ = self.0.guardian.forget(child.id());
            state.child = None;
            state.died = Some(status);
        }
    }

    fn limit_files(&self, limit: &str) -> Result<(), LocalError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        self.limit_files_of(pid, limit)?;
        self.children_of(pid).into_iter().try_for_each(|child| self.limit_files_of(child, limit))
    }

    fn limit_files_of(&self, pid: u32, limit: &str) -> Result<(), LocalError> {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), &format!("--fsize={limit}:")]).current_dir("/");
        // As the same user: for others, root alone is not enough in a container.
        if let Some(user) = &self.0.recipe.user {
            user.apply_to(&mut command);
        }
        let output = command.output().map_err(LocalError::system("run prlimit (Debian's util-linux)"))?;
        if output.status.success() || !is_alive(pid) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(LocalError::Unfit(format!("the files of {} cannot be limited: {}", self.name(), said.trim())))
    }

    fn children_of(&self, pid: u32) -> Vec<u32> {
        match self.0.recipe.kind {
            Kind::Postgres { .. } => children_of(pid),
            Kind::Redis { .. } | Kind::Service { .. } | Kind::Tool => Vec::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHOWN_LINES: usize = 15;

/// PostgreSQL writes its state into line 8, padded: `ready` or, in recovery, `standby` (`src/include/utils/pidfile.h`).
fn lock_file_says_ready(lock: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(lock) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && matches!(lines.get(7), Some(&("ready" | "standby")))
}

fn open_log(path: &Path) -> Result<File, LocalError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(LocalError::system(format!("open {}", path.display())))
}

fn read_end(path: &Path, start: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES)).min(length)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whatever `PGHOST` or `LC_ALL` says in the caller's shell is not meant for these servers.
pub(crate) fn plain_environment() -> BTreeMap<OsString, OsString> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    BTreeMap::from([("PATH".into(), path), ("LC_ALL".into(), "C".into())])
}

pub(crate) async fn start_on_free_port(
    ports: &Ports,
    prepare: impl Fn(u16) -> Result<Process, LocalError>,
) -> Result<(Process, u16), LocalError> {
    // Ports are reserved among clusters: to lose twice against other programs is already unheard of.
    let mut tries_left = 3;
    loop {
        let port = ports.take()?;
        let process = prepare(port)?;
        tries_left -= 1;
        match process.start().await {
            Ok(()) => return Ok((process, port)),
            Err(LocalError::PortTaken { .. }) if tries_left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}
