//! Where this machine keeps the programs that a cluster is made of.

use std::cmp::Reverse;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::LocalError;

pub const POSTGRES_MIN_MAJOR: u32 = 15;

pub const POSTGRES_ENV: &str = "PICOPAY_PG_BIN";

pub const PICOPAY_ENV: &str = "PICOPAY_BIN_DIR";

/// Client packages bring some of these, so all are looked for.
const POSTGRES_PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_basebackup"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    pub folder: PathBuf,
    pub version: String,
    pub major: u32,
}

impl Postgres {
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The PostgreSQL to use: the folder that [`POSTGRES_ENV`] names, else the newest that is found.
pub fn find_postgres() -> Result<Postgres, LocalError> {
    if let Some(folder) = env::var_os(POSTGRES_ENV).map(PathBuf::from) {
        let found = look_at_postgres(&folder).ok_or_else(|| {
            let wanted = POSTGRES_PROGRAMS.join(", ");
            LocalError::Unfit(format!("{POSTGRES_ENV}={} does not hold {wanted}", folder.display()))
        })?;
        if found.major < POSTGRES_MIN_MAJOR {
            let (place, version) = (folder.display(), &found.version);
            let text = format!("{POSTGRES_ENV}={place} is version {version}, {POSTGRES_MIN_MAJOR} is needed");
            return Err(LocalError::Unfit(text));
        }
        return Ok(found);
    }
    all_postgres().into_iter().find(|found| found.major >= POSTGRES_MIN_MAJOR).ok_or_else(|| {
        LocalError::Missing {
            what: format!("PostgreSQL {POSTGRES_MIN_MAJOR} or newer"),
            how_to_get_it: format!(
                "Install it (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17), \
                 or name the folder of its programs in {POSTGRES_ENV}."
            ),
        }
    })
}

pub fn find_postgres_of(major: u32) -> Result<Postgres, LocalError> {
    let preferred = find_postgres()?;
    let mut candidates = std::iter::once(preferred).chain(all_postgres());
    candidates.find(|found| found.major == major).ok_or_else(|| LocalError::Missing {
        what: format!("PostgreSQL {major}, which made the databases that are kept here,"),
        how_to_get_it: "Install that version, or begin anew with --fresh.".to_owned(),
    })
}

pub fn all_postgres() -> Vec<Postgres> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(pg_config_folder());
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"] {
        folders.extend(versioned_folders(Path::new(parent)));
    }
    folders.extend(search_path());
    let mut found: Vec<Postgres> = Vec::new();
    for folder in folders {
        if !found.iter().any(|known| known.folder == folder) {
            found.extend(look_at_postgres(&folder));
        }
    }
    // Stable: of two equal ones the first found, `pg_config`'s, stays first.
    found.sort_by_key(|postgres| Reverse(postgres.major));
    found
}

pub fn find_redis() -> Result<PathBuf, LocalError> {
    let mut folders = search_path();
    folders.extend(["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    let programs = ["redis-server", "valkey-server"];
    let mut candidates = programs.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|path| path.is_file()).ok_or_else(|| LocalError::Missing {
        what: "redis-server".to_owned(),
        how_to_get_it:
            "Install it (Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis)."
                .to_owned(),
    })
}

/// In the folders of `PATH`, or where systems put programs.
pub fn find_in_path(name: &str, how_to_get_it: &str) -> Result<PathBuf, LocalError> {
    let mut folders = search_path();
    folders.extend(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| LocalError::Missing { what: name.to_owned(), how_to_get_it: how_to_get_it.to_owned() })
}

/// In the folder that [`PICOPAY_ENV`] names, else beside this program, else in the folder above it, as for tests and
/// examples of cargo.
pub fn find_picopay(name: &str) -> Result<PathBuf, LocalError> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(folder) = env::var_os(PICOPAY_ENV) {
        folders.push(PathBuf::from(folder));
    } else if let Ok(this) = env::current_exe() {
        folders.extend(this.ancestors().skip(1).take(2).map(Path::to_owned));
    }
    find_picopay_in(&folders, name)
}

pub(crate) fn find_picopay_in(folders: &[PathBuf], name: &str) -> Result<PathBuf, LocalError> {
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        LocalError::Missing {
            what: format!("{name} (looked in {})", places.join(" and ")),
            how_to_get_it: format!(
                "Build it: cargo build --workspace --bins; or name its folder in {PICOPAY_ENV}."
            ),
        }
    })
}

pub fn free_disk_mb(folder: &Path) -> Option<u64> {
    let statistics = nix::sys::statvfs::statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let (blocks, size) =
        (u64::try_from(statistics.blocks_available()).ok()?, u64::try_from(statistics.fragment_size()).ok()?);
    Some(blocks.saturating_mul(size) / (1024 * 1024))
}

fn look_at_postgres(folder: &Path) -> Option<Postgres> {
    if !POSTGRES_PROGRAMS.iter().all(|name| folder.join(name).is_file()) {
        return None;
    }
    let version = parse_version(&output_of(&folder.join("postgres"), "--version")?)?;
    let major = version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
    Some(Postgres { folder: folder.to_owned(), version, major })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is `15.18`.
fn parse_version(line: &str) -> Option<String> {
    line.split_once("(PostgreSQL) ")?.1.split_whitespace().next().map(str::to_owned)
}

fn pg_config_folder() -> Option<PathBuf> {
    let folder = output_of(Path::new("pg_config"), "--bindir")?;
    Some(PathBuf::from(folder.trim()))
}

/// `17/bin` (Debian), `postgresql@17/bin` (Homebrew) and `pgsql-17/bin` (Red Hat) in `parent`.
fn versioned_folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let is_versioned = |name: &str| {
        let number = name
            .trim_start_matches("postgresql@")
            .trim_start_matches("postgresql")
            .trim_start_matches("pgsql-");
        number.chars().all(|letter| letter.is_ascii_digit())
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_versioned(name)).map(|name| parent.join(name).join("bin")).collect()
}

/// Whether this machine has a locale, `de_DE.UTF-8` for example: PostgreSQL starts with no other.
pub fn has_locale(name: &str) -> bool {
    let plain = |name: &str| name.replace('-', "").to_lowercase();
    output_of(Path::new("locale"), "-a").is_some_and(|all| all.lines().any(|one| plain(one) == plain(name)))
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

fn output_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_each_system_prints_them() {
        for (line, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some("15.18")),
            ("postgres (PostgreSQL) 17.2\n", Some("17.2")),
            ("postgres (PostgreSQL) 18beta1", Some("18beta1")),
            ("something else 1.2", None),
        ] {
            assert_eq!(parse_version(line).as_deref(), version, "{line}");
        }
    }

    #[test]
    fn a_program_that_was_not_built_is_named_with_the_command_that_builds_it() {
        let message = find_picopay("picopay-nothing").unwrap_err().to_string();
        assert!(message.contains("picopay-nothing") && message.contains("cargo build --workspace --bins"));
    }
}
