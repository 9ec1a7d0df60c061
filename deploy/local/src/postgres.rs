//! The PostgreSQL servers of a shard: made with `initdb` and `pg_basebackup`, run as children of this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use picopay_postgres::{Connection, Endpoint, OpenError};
use picopay_shared::cluster::DatabaseCertificates;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::certificates::{Certificates, POSTGRES, REPLICATOR};
use crate::database_user::DatabaseUser;
use crate::folder::{make_private, remove, write, write_private};
use crate::guardian::Guardian;
use crate::os_process::{POLL, command_line};
use crate::process::{Kind, Process, Recipe, plain_environment};
use crate::programs::Postgres;
use crate::secrets::Secrets;
use crate::services_database::{DATABASE, ROLE};
use crate::{LocalError, ports};

/// A server on the loopback answers a connection in milliseconds; a frozen one never does.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// A copy of a template begins with the template's passwords. A standby that starts again lets clients in before it has
/// replayed that they were changed.
const PASSWORD_WAIT: Duration = Duration::from_secs(10);

/// A replica connects within `wal_retrieve_retry_interval`, and may have to catch up with some minutes of load.
const STREAMING_WAIT: Duration = Duration::from_mins(1);

/// A recovery that is milliseconds behind ends, unless the machine is busy.
const PROMOTE_WAIT: Duration = Duration::from_mins(1);

const STANDBY_SIGNAL: &str = "standby.signal";

/// For a new primary, whose standby does not exist yet.
const ALONE: &str = "SET synchronous_commit = local";

/// `postgresql.conf` holds nothing else, so that a cluster is the same with every packaging of PostgreSQL.
pub(crate) const SETTINGS: &str = "\
# Written at every start by picopay-local; changes here are lost. ALTER SYSTEM goes over it.

# The loopback only, and no socket: the path of one ends at 107 bytes, and test folders are long.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''

# Two nodes for each shard with their pools, a test's own connections and an operator's, with room.
max_connections = 100

# Room for the rows of some million charges: a replica that has to make room in the middle of its replay writes its
# control file each time, and holds up the primary's commits meanwhile. Memory that is not used is not taken.
shared_buffers = 512MB

# An acknowledged charge is on disk. Also here: a speed that was measured without it would be no measurement.
fsync = on
full_page_writes = on

# Replicas follow by streaming, and answer queries while they do.
wal_level = replica
max_wal_senders = 10
hot_standby = on
# The replica tells which rows it still reads, or the primary's clean-up would cancel its queries.
hot_standby_feedback = on
# What the replica is about to change is in memory: looking ahead for it only costs.
recovery_prefetch = off
# A replica looks for its primary again after this time. The default of 5 s would hold up every commit for that
# long whenever a primary was restarted.
wal_retrieve_retry_interval = 200ms
# A replica that was away for some minutes of load still finds what it missed.
wal_keep_size = 512MB

# No checkpoint, and none of its full page images, in the middle of a short run.
max_wal_size = 2GB
checkpoint_timeout = 15min

# Shared memory that is a file in the data folder goes away with it, even after SIGKILL; and containers often
# have only 64 MB in /dev/shm.
dynamic_shared_memory_type = mmap

# To standard error, which the parent has put into a file.
logging_collector = off
log_line_prefix = '%m [%p] %q%a '
log_timezone = 'UTC'
timezone = 'UTC'
datestyle = 'iso, mdy'
lc_messages = 'C'
";

#[derive(Debug)]
pub(crate) struct Ground {
    pub programs: Postgres,
    pub user: Option<DatabaseUser>,
    pub guardian: Arc<Guardian>,
    pub secrets: Secrets,
    pub ports: ports::Ports,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub process: Process,
    pub port: u16,
}

pub(crate) fn make_place(ground: &Ground, folder: &Path) -> Result<(), LocalError> {
    remove(folder)?;
    make_private(folder)?;
    ground.user.as_ref().map_or(Ok(()), |user| user.give(folder))
}

pub(crate) async fn initdb(ground: &Ground, name: &str, data: &Path, log: PathBuf) -> Result<(), LocalError> {
    let folder = data.parent().expect("a data folder stands in its shard's folder");
    make_place(ground, folder)?;
    // Not on the command line, where every user of the machine could read it.
    let password = folder.join("password");
    write_private(&password, &format!("{}\n", ground.secrets.superuser))?;
    if let Some(user) = &ground.user {
        user.give(&password)?;
    }
    let arguments = [
        "--pgdata".into(),
        data.into(),
        "--username=postgres".into(),
        "--pwfile".into(),
        password.clone().into(),
        "--auth=scram-sha-256".into(),
        "--encoding=UTF8".into(),
        // Bytewise order: the same on every system, and the fastest.
        "--locale=C".into(),
        // See `Stage::Making`.
        "--no-sync".into(),
        "--no-instructions".into(),
    ];
    let tool = ground.tool(&format!("initdb of {name}"), "initdb", arguments.to_vec(), log);
    tool.spawn()?;
    tool.wait_until_done().await?;
    remove(&password)
}

/// Copies a running primary into `data`. A quick copy does not wait for the disk: for new data (see [`Stage::Making`]), or
/// data that nobody will read again.
pub(crate) async fn base_backup(
    ground: &Ground,
    name: &str,
    primary_port: u16,
    data: &Path,
    log: PathBuf,
    is_quick: bool,
) -> Result<(), LocalError> {
    remove(data)?;
    let mut arguments = vec![
        "--pgdata".into(),
        data.into(),
        "--host=127.0.0.1".into(),
        format!("--port={primary_port}").into(),
        "--username=replicator".into(),
        "--no-password".into(),
        // Without it the copy waits for the next checkpoint, minutes away.
        "--checkpoint=fast".into(),
        "--wal-method=stream".into(),
    ];
    if is_quick {
        arguments.push("--no-sync".into());
    }
    let mut recipe = ground.recipe(&format!("pg_basebackup of {name}"), "pg_basebackup", arguments, log);
    recipe.environment.insert("PGPASSWORD".into(), ground.secrets.replicator.clone().into());
    if ground.secrets.certificates.is_some() {
        let own = replicators_files(data);
        for (name, value) in [
            ("PGSSLMODE", "verify-full".into()),
            ("PGSSLROOTCERT", own.join("ca.pem").into_os_string()),
            ("PGSSLCERT", own.join("replicator.pem").into()),
            ("PGSSLKEY", own.join("replicator.key").into()),
        ] {
            recipe.environment.insert(name.into(), value);
        }
    }
    let tool = Process::new(recipe, Arc::clone(&ground.guardian));
    tool.spawn()?;
    tool.wait_until_done().await
}

#[derive(Debug, Clone)]
pub(crate) struct Blueprint<'a> {
    pub name: String,
    pub data: PathBuf,
    pub role: Role,
    /// Before it acknowledges a commit. A standby names one too, since it may be promoted.
    pub synchronous_standby: Option<String>,
    pub stage: Stage,
    pub settings: &'a [(String, String)],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Primary,
    /// On this port. [`is_standby`] says whether a server really starts as a replica.
    Replica {
        primary_port: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It does not wait for the disk, which would take most of a cluster's start. The system writes the files within half a
    /// minute; if the machine stops before, a kept cluster must be made again.
    Making,
    Serving,
}

pub(crate) fn prepare(
    ground: &Ground,
    blueprint: &Blueprint<'_>,
    port: u16,
    log: PathBuf,
) -> Result<Process, LocalError> {
    configure(ground, blueprint, port)?;
    drop_stale_lock(&blueprint.data)?;
    let arguments = vec!["-D".into(), blueprint.data.clone().into()];
    let mut recipe = ground.recipe(&blueprint.name, "postgres", arguments, log);
    recipe.kind = Kind::Postgres { data: blueprint.data.clone() };
    Ok(Process::new(recipe, Arc::clone(&ground.guardian)))
}

pub(crate) async fn create_roles(ground: &Ground, primary: &Server) -> Result<(), LocalError> {
    let client = connect_to_administer(ground, primary).await?;
    let Secrets { picopay, replicator, .. } = &ground.secrets;
    let doing = || LocalError::postgres("create the roles and the database");
    // Passwords cannot be parameters of these statements; they are hexadecimal digits, made by this crate.
    let roles = format!(
        "{ALONE};
         CREATE ROLE {ROLE} LOGIN PASSWORD '{picopay}' IN ROLE pg_monitor;
         GRANT SET ON PARAMETER session_replication_role TO {ROLE};
         CREATE ROLE replicator LOGIN REPLICATION PASSWORD '{replicator}';"
    );
    client.batch_execute(&roles).await.map_err(doing())?;
    client.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER {ROLE}")).await.map_err(doing())
}

/// Takes from a copy what it has of the original: passwords, and the cluster that it is of if it is of one.
pub(crate) async fn make_its_own(
    ground: &Ground,
    primary: &Server,
    old_superuser: &str,
    cluster_id: Option<Uuid>,
) -> Result<(), LocalError> {
    let client = connect(&ground.secrets, primary.port, "postgres", old_superuser, DATABASE).await?;
    let Secrets { superuser, picopay, replicator, .. } = &ground.secrets;
    let passwords = format!(
        "{ALONE};
         ALTER ROLE postgres PASSWORD '{superuser}';
         ALTER ROLE {ROLE} PASSWORD '{picopay}';
         ALTER ROLE replicator PASSWORD '{replicator}';"
    );
    client.batch_execute(&passwords).await.map_err(LocalError::postgres("change the passwords"))?;
    let Some(cluster_id) = cluster_id else { return Ok(()) };
    let identity = "UPDATE shard_identity SET cluster_id = $1, generation_id = gen_random_uuid()";
    let changed = client.execute(identity, &[&cluster_id]).await;
    match changed.map_err(LocalError::postgres("change the identity"))? {
        1 => Ok(()),
        rows => Err(LocalError::Unfit(format!("a database of a cluster has {rows} identities"))),
    }
}

pub(crate) async fn run_founding_sql(
    ground: &Ground,
    primary: &Server,
    founding_sql: &[String],
) -> Result<(), LocalError> {
    if founding_sql.is_empty() {
        return Ok(());
    }
    let client =
        connect(&ground.secrets, primary.port, "postgres", &ground.secrets.superuser, DATABASE).await?;
    for statement in std::iter::once(ALONE).chain(founding_sql.iter().map(String::as_str)) {
        let doing = LocalError::postgres(format!("run {statement:?}"));
        client.batch_execute(statement).await.map_err(doing)?;
    }
    Ok(())
}

/// Of a synchronous one, until commits wait for it.
pub(crate) async fn wait_until_streaming(
    ground: &Ground,
    primary: &Server,
    replica: &Process,
    wanted: &str,
) -> Result<(), LocalError> {
    let client = connect_to_administer(ground, primary).await?;
    let started = Instant::now();
    while started.elapsed() < STREAMING_WAIT {
        if sync_state(&client, replica).await?.is_some_and(|state| state == wanted) {
            return Ok(());
        }
        if let Some(status) = replica.died() {
            return Err(replica.ended(status));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(replica.not_ready(STREAMING_WAIT, "it does not follow its primary"))
}

pub(crate) async fn sync_state(primary: &Client, replica: &Process) -> Result<Option<String>, LocalError> {
    let found = primary
        .query_opt(
            "SELECT sync_state FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'",
            &[&replica.name()],
        )
        .await
        .map_err(LocalError::postgres("look at the replication"))?;
    Ok(found.map(|row| row.get(0)))
}

pub(crate) async fn promote(client: &Client, standby: &Process) -> Result<(), LocalError> {
    let limit = i32::try_from(PROMOTE_WAIT.as_secs()).expect("a minute");
    let promoted = client.query_one("SELECT pg_promote(true, $1)", &[&limit]).await;
    if promoted.map_err(LocalError::postgres(format!("promote {}", standby.name())))?.get(0) {
        Ok(())
    } else {
        Err(standby.not_ready(PROMOTE_WAIT, "it does not end its recovery"))
    }
}

pub(crate) async fn connect_to_administer(ground: &Ground, server: &Server) -> Result<Client, LocalError> {
    connect(&ground.secrets, server.port, "postgres", &ground.secrets.superuser, "postgres").await
}

pub(crate) fn is_standby(data: &Path) -> bool {
    data.join(STANDBY_SIGNAL).is_file()
}

pub(crate) fn make_standby(ground: &Ground, data: &Path) -> Result<(), LocalError> {
    let mark = data.join(STANDBY_SIGNAL);
    write(&mark, "")?;
    ground.user.as_ref().map_or(Ok(()), |user| user.give(&mark))
}

pub(crate) async fn connect(
    secrets: &Secrets,
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, LocalError> {
    let doing = format!("connect to PostgreSQL on port {port} as {user}");
    let mut text = format!("host=127.0.0.1 port={port} user={user} dbname={database}");
    let mut files = DatabaseCertificates::default();
    if let Some(own) = &secrets.certificates {
        text.push_str(&own.words(ROLE));
        files.add(&text, Path::new("")).map_err(LocalError::Unfit)?;
    }
    let mut endpoint = Endpoint::parse(&text, &files).map_err(LocalError::Unfit)?;
    endpoint.config.password(password).application_name("picopay-local").connect_timeout(CONNECT_WAIT);
    let began = Instant::now();
    loop {
        match Connection::open(&endpoint, CONNECT_WAIT).await {
            Ok(connection) => return Ok(connection.into_parts().0),
            Err(OpenError::Failed(error))
                if error.code() == Some(&SqlState::INVALID_PASSWORD) && began.elapsed() < PASSWORD_WAIT =>
            {
                tokio::time::sleep(POLL).await;
            }
            Err(OpenError::Failed(error)) => return Err(LocalError::postgres(doing)(error)),
            Err(OpenError::TimedOut(after)) => {
                return Err(LocalError::Unfit(format!("cannot {doing}: no answer in {} s", after.as_secs())));
            }
        }
    }
}

impl Ground {
    fn tool(&self, name: &str, program: &str, arguments: Vec<std::ffi::OsString>, log: PathBuf) -> Process {
        Process::new(self.recipe(name, program, arguments, log), Arc::clone(&self.guardian))
    }

    fn recipe(&self, name: &str, program: &str, arguments: Vec<std::ffi::OsString>, log: PathBuf) -> Recipe {
        Recipe {
            name: name.to_owned(),
            program: self.programs.program(program),
            arguments,
            environment: plain_environment(),
            user: self.user.clone(),
            log,
            kind: Kind::Tool,
        }
    }
}

/// From now on a server that was being made keeps what it is given.
pub(crate) async fn begin_to_serve(
    ground: &Ground,
    blueprint: &Blueprint<'_>,
    server: &Server,
) -> Result<(), LocalError> {
    let client = connect_to_administer(ground, server).await?;
    let doing = || LocalError::postgres(format!("reload the configuration of {}", blueprint.name));
    let loaded_at = async || -> Result<String, LocalError> {
        let row = client.query_one("SELECT pg_conf_load_time()::text", &[]).await.map_err(doing())?;
        Ok(row.get(0))
    };
    let before = loaded_at().await?;
    configure(ground, blueprint, server.port)?;
    server.process.reload();
    let started = Instant::now();
    while loaded_at().await? == before {
        if started.elapsed() > CONNECT_WAIT {
            return Err(server.process.not_ready(CONNECT_WAIT, "it does not reload its configuration"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

pub(crate) fn configure(ground: &Ground, blueprint: &Blueprint<'_>, port: u16) -> Result<(), LocalError> {
    let name = &blueprint.name;
    let tls = ground.secrets.certificates.as_ref();
    match tls {
        Some(own) => insist_on_tls(ground, blueprint, own)?,
        // It was started over TLS before.
        None if replicators_files(&blueprint.data).exists() => {
            write_for_server(ground, &blueprint.data.join("pg_hba.conf"), PLAIN)?;
        }
        None => {}
    }
    let mut text = format!("{SETTINGS}\nport = {port}\ncluster_name = '{name}'\nsynchronous_commit = on\n");
    let standby = blueprint.synchronous_standby.as_ref();
    let standby = standby.map_or_else(String::new, |standby| format!("FIRST 1 (\"{standby}\")"));
    text.push_str(&setting("synchronous_standby_names", &standby));
    if let Role::Replica { primary_port } = blueprint.role {
        let password = &ground.secrets.replicator;
        let primary = format!(
            "host=127.0.0.1 port={primary_port} user=replicator password={password} application_name={name}{}",
            tls.map(|_| replicators_words(&blueprint.data)).unwrap_or_default()
        );
        text.push_str(&setting("primary_conninfo", &primary));
    }
    if tls.is_some() {
        text.push_str(SERVER_TLS);
    }
    for (name, value) in blueprint.settings {
        text.push_str(&setting(name, value));
    }
    if blueprint.stage == Stage::Making {
        text.push_str("fsync = off\n");
    }
    // `initdb` and `pg_basebackup` made the file, readable by its owner only, and this keeps that.
    write(&blueprint.data.join("postgresql.conf"), &text)
}

/// Relative to the data folder.
const SERVER_TLS: &str =
    "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.pem'\n";

/// Nobody comes in without TLS, and the cluster's own roles not without a certificate either.
const TLS_ONLY: &str = "\
hostssl all         picopay    127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl replication replicator 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostssl all         postgres   127.0.0.1/32 scram-sha-256
";

const PLAIN: &str = "\
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
";

/// A server reads only files that belong to its user.
fn insist_on_tls(ground: &Ground, blueprint: &Blueprint<'_>, own: &Certificates) -> Result<(), LocalError> {
    let data = &blueprint.data;
    let read = |path: PathBuf| {
        fs::read_to_string(&path).map_err(LocalError::system(format!("read {}", path.display())))
    };
    for (name, text) in [
        ("ca.pem", read(own.authority())?),
        ("server.pem", read(own.certificate(POSTGRES))?),
        ("server.key", read(own.key(POSTGRES))?),
        ("pg_hba.conf", TLS_ONLY.to_owned()),
    ] {
        write_for_server(ground, &data.join(name), &text)?;
    }
    let folder = replicators_files(data);
    make_private(&folder)?;
    ground.user.as_ref().map_or(Ok(()), |user| user.give(&folder))?;
    for (name, path) in [
        ("ca.pem", own.authority()),
        ("replicator.pem", own.certificate(REPLICATOR)),
        ("replicator.key", own.key(REPLICATOR)),
    ] {
        write_for_server(ground, &folder.join(name), &read(path)?)?;
    }
    Ok(())
}

fn write_for_server(ground: &Ground, path: &Path, text: &str) -> Result<(), LocalError> {
    write_private(path, text)?;
    ground.user.as_ref().map_or(Ok(()), |user| user.give(path))
}

/// Beside the data folders of a shard: a copy is made before there is a data folder.
fn replicators_files(data: &Path) -> PathBuf {
    data.parent().expect("a data folder stands in its shard's folder").join("tls")
}

/// The end of a standby's connection string.
fn replicators_words(data: &Path) -> String {
    let file = |name: &str| {
        replicators_files(data).join(name).display().to_string().replace('\\', "\\\\").replace('\'', "\\'")
    };
    format!(
        " sslmode=verify-full sslrootcert='{}' sslcert='{}' sslkey='{}'",
        file("ca.pem"),
        file("replicator.pem"),
        file("replicator.key")
    )
}

fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

/// After a crash the lock file names a process that is gone, whose number may be another server's by now. PostgreSQL would
/// refuse to start. The lock of the whole folder says that nobody else uses it.
fn drop_stale_lock(data: &Path) -> Result<(), LocalError> {
    let lock = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&lock) else { return Ok(()) };
    let pid = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    // A server that even its guardian did not outlive: PostgreSQL's own message about it is the best there is.
    let is_ours =
        pid.is_some_and(|pid| command_line(pid).is_some_and(|line| line.contains(&*data.to_string_lossy())));
    if is_ours { Ok(()) } else { remove(&lock) }
}
