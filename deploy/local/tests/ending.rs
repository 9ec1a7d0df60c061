//! However the owner of a cluster ends, nothing of the cluster stays behind.
//!
//! The owner is the example `cluster`, a process of its own, so that it can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use picopay_local::{ClusterSpec, LocalCluster, eventually_within};

/// The guardian gives PostgreSQL 2 s to end; the rest is for a busy machine.
const ENDING_WAIT: Duration = Duration::from_secs(10);

struct Owner {
    child: Child,
    folder: PathBuf,
    processes: Vec<(u32, String)>,
}

impl Owner {
    fn start() -> Self {
        let this = std::env::current_exe().unwrap();
        let example = this.ancestors().nth(2).unwrap().join("examples/cluster");
        let mut command = Command::new(&example);
        command.arg("databases").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", example.display()));
        let (mut folder, mut processes) = (PathBuf::new(), Vec::new());
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            match line.unwrap().split_once(' ') {
                Some(("folder", path)) => folder = PathBuf::from(path),
                Some(("process", process)) => {
                    let (pid, name) = process.split_once(' ').unwrap();
                    processes.push((pid.parse().unwrap(), name.to_owned()));
                }
                _ => break,
            }
        }
        let children: Vec<_> = processes.iter().flat_map(|(pid, name)| children_of(*pid, name)).collect();
        processes.extend(children);
        assert!(folder.is_dir() && processes.len() > 5, "{processes:?}");
        Self { child, folder, processes }
    }

    fn pid_of(&self, wanted: &str) -> u32 {
        self.processes.iter().find(|(_, name)| name == wanted).unwrap().0
    }

    fn kill_and_wait(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn assert_nothing_is_left(&self) {
        eventually_within(ENDING_WAIT, "the end of everything", async || {
            let left: Vec<_> = self.processes.iter().filter(|(pid, _)| is_alive(*pid)).collect();
            let is_there = self.folder.exists();
            if left.is_empty() && !is_there {
                Ok(())
            } else {
                Err(format!("left: {left:?}, folder: {is_there}"))
            }
        })
        .await;
    }
}

struct Row {
    pid: u32,
    parent: u32,
    state: String,
}

/// From `/proc`, since small images have no `ps`, or from `ps`.
fn process_table() -> Vec<Row> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        let output = Command::new("ps").args(["-A", "-o", "pid=,state=,ppid="]).output().unwrap();
        return String::from_utf8(output.stdout).unwrap().lines().filter_map(parse_row).collect();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let stats = pids.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let lines =
        stats.filter_map(|stat| Some(format!("{} {}", stat.split(' ').next()?, stat.rsplit_once(") ")?.1)));
    lines.filter_map(|line| parse_row(&line)).collect()
}

fn parse_row(line: &str) -> Option<Row> {
    let mut fields = line.split_whitespace();
    let (pid, state) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
    Some(Row { pid, state, parent: fields.next()?.parse().ok()? })
}

fn is_alive(pid: u32) -> bool {
    process_table().iter().any(|row| row.pid == pid && !row.state.starts_with('Z'))
}

fn children_of(parent: u32, name: &str) -> Vec<(u32, String)> {
    let children = process_table().into_iter().filter(|row| row.parent == parent);
    children.map(|row| (row.pid, format!("child of {name}"))).collect()
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(pid: u32, signal: Signal) {
    // A child of PostgreSQL may have ended by itself: it has some that come and go.
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_no_process_and_no_file() {
    let mut owner = Owner::start();
    owner.kill_and_wait();
    owner.assert_nothing_is_left().await;
}

#[tokio::test]
async fn an_owner_that_is_killed_leaves_not_even_what_was_frozen() {
    let mut owner = Owner::start();
    for (pid, name) in &owner.processes {
        if name.contains("postgres-a") || name == "redis" {
            send(*pid, Signal::SIGSTOP);
        }
    }
    owner.kill_and_wait();
    owner.assert_nothing_is_left().await;
}

#[tokio::test]
async fn a_primary_that_was_killed_with_its_owner_leaves_no_shared_memory() {
    let mut owner = Owner::start();
    let lock = owner.folder.join("databases/shard-1/postgres-a/postmaster.pid");
    let segment = segment_of(&lock);
    assert!(has_segment(&segment), "{segment}");
    send(owner.pid_of("shard-1-postgres-a"), Signal::SIGKILL);
    owner.kill_and_wait();
    owner.assert_nothing_is_left().await;
    assert!(!has_segment(&segment), "{segment}");
}

/// Line 7 of PostgreSQL's lock file: key and id.
fn segment_of(lock: &Path) -> String {
    let text = std::fs::read_to_string(lock).unwrap();
    text.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

fn has_segment(id: &str) -> bool {
    let output = Command::new("ipcs").arg("-m").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_process_and_no_file() {
    let cluster = LocalCluster::start_databases(ClusterSpec::one_shard()).await.unwrap();
    let folder = cluster.folder().to_owned();
    let processes: Vec<u32> = cluster.processes().iter().filter_map(picopay_local::Process::pid).collect();
    assert_eq!(processes.len(), 3);
    drop(cluster);
    assert!(!folder.exists());
    assert!(!processes.into_iter().any(is_alive));
}
