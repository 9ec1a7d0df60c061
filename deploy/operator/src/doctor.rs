//! `picopay doctor`: what is missing on this machine for a local cluster, and how to get it. It changes nothing.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use picopay_local::programs::{self, POSTGRES_MIN_MAJOR};
use picopay_local::{LocalError, database_user};

use crate::output::{bad, good, plain, print, table, verdict_bad, verdict_good};

/// Two shards take 200 MB when new, and some GB of log under load.
const DISK_WANTED_MB: u64 = 4096;

/// What one process cannot do without to start a cluster at all.
const DISK_NEEDED_MB: u64 = 512;

/// What `picopay doctor` takes.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Where the gateway would listen
    #[arg(long, value_name = "ADDRESS", env = "PICOPAY_GATEWAY__LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the data would be
    #[arg(long, value_name = "FOLDER", default_value = ".picopay")]
    data: PathBuf,
}

struct Diagnosis {
    what: &'static str,
    state: State,
    detail: String,
}

enum State {
    Good,
    /// Worth knowing; a cluster starts all the same.
    Note,
    Missing,
}

/// Looks around and reports. Exit code 1 when something is missing that a cluster needs.
#[expect(clippy::unused_async, reason = "every command is called in the same way")]
pub async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = [
        look_for_postgres(),
        look_for_redis(),
        look_for_database_user(),
        look_for_own_programs(),
        look_at_port(args.listen),
        look_at_disk(&args.data),
    ];
    let mut rows = table(["what", "state", "found"]);
    for Diagnosis { what, state, detail } in &findings {
        let verdict = match state {
            State::Good => good("ok"),
            State::Note => plain("note"),
            State::Missing => bad("missing"),
        };
        rows.add_row([plain(what), verdict, plain(detail)]);
    }
    print(&rows.to_string());
    if findings.iter().any(|finding| matches!(finding.state, State::Missing)) {
        print(&verdict_bad("Something is missing. `make setup` installs what a package manager can."));
        return Ok(ExitCode::FAILURE);
    }
    print(&verdict_good("This machine can run a cluster: picopay up"));
    Ok(ExitCode::SUCCESS)
}

fn look_for_postgres() -> Diagnosis {
    let others: Vec<String> = programs::all_postgres()
        .iter()
        .map(|postgres| format!("{} in {}", postgres.version, postgres.folder.display()))
        .collect();
    match programs::find_postgres() {
        Ok(found) => {
            let version = Command::new(found.program("postgres")).arg("--version").output();
            let runs = version.is_ok_and(|output| output.status.success());
            let mut detail = format!("{} in {}", found.version, found.folder.display());
            if others.len() > 1 {
                detail = format!("{detail} (of: {})", others.join(", "));
            }
            let state = if runs { State::Good } else { State::Missing };
            Diagnosis { what: "PostgreSQL", state, detail }
        }
        Err(error) => {
            let found = if others.is_empty() {
                String::new()
            } else {
                format!(" Found, but older than {POSTGRES_MIN_MAJOR}: {}.", others.join(", "))
            };
            Diagnosis { what: "PostgreSQL", state: State::Missing, detail: format!("{error}{found}") }
        }
    }
}

fn look_for_redis() -> Diagnosis {
    from_result("Redis", programs::find_redis().map(|path| path.display().to_string()))
}

fn look_for_database_user() -> Diagnosis {
    let what = "database user";
    match database_user::find() {
        Ok(None) => Diagnosis { what, state: State::Good, detail: "PostgreSQL runs as you".to_owned() },
        Ok(Some(user)) if user.can_run() => Diagnosis {
            what,
            state: State::Good,
            detail: format!("you are root, so PostgreSQL runs as {}", user.name),
        },
        Ok(Some(user)) => Diagnosis {
            what,
            state: State::Missing,
            detail: format!(
                "you are root, PostgreSQL refuses to run as root, and this system does not let root start anything \
                 as {}: run picopay as another user",
                user.name
            ),
        },
        Err(error) => Diagnosis { what, state: State::Missing, detail: error.to_string() },
    }
}

fn look_for_own_programs() -> Diagnosis {
    let names = ["picopay-node", "picopay-gateway", "picopay"];
    let found: Result<Vec<PathBuf>, LocalError> =
        names.iter().map(|name| programs::find_picopay(name)).collect();
    let folder = |paths: Vec<PathBuf>| {
        let folder = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/"));
        format!("{} in {}", names.join(", "), folder.display())
    };
    from_result("PicoPay", found.map(folder))
}

fn look_at_port(listen: SocketAddr) -> Diagnosis {
    let what = "gateway's port";
    match TcpListener::bind(listen) {
        Ok(_) => Diagnosis { what, state: State::Good, detail: format!("{listen} is free") },
        Err(error) => Diagnosis {
            what,
            state: State::Note,
            detail: format!(
                "{listen}: {error}. PICOPAY_GATEWAY__LISTEN=127.0.0.1:8081 makes it listen elsewhere"
            ),
        },
    }
}

fn look_at_disk(data: &Path) -> Diagnosis {
    let what = "disk";
    let place = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let existing = place.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let Some(free_mb) = programs::free_disk_mb(existing) else {
        return Diagnosis {
            what,
            state: State::Note,
            detail: format!("cannot tell for {}", existing.display()),
        };
    };
    let state = match free_mb {
        ..DISK_NEEDED_MB => State::Missing,
        DISK_NEEDED_MB..DISK_WANTED_MB => State::Note,
        DISK_WANTED_MB.. => State::Good,
    };
    let detail =
        format!("{free_mb} MB free for {}; {DISK_WANTED_MB} MB are enough for load", place.display());
    Diagnosis { what, state, detail }
}

fn from_result(what: &'static str, found: Result<String, LocalError>) -> Diagnosis {
    match found {
        Ok(detail) => Diagnosis { what, state: State::Good, detail },
        Err(error) => Diagnosis { what, state: State::Missing, detail: error.to_string() },
    }
}
