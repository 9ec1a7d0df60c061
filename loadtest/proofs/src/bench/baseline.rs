//! What PostgreSQL does one charge at a time: pgbench calls a stored function for each charge.
//!
//! The baseline is as fast as we can make it: prepared statements, generic plans, no JIT, a Unix socket. Servers,
//! synchronous replica and tables are the ledger's; the database is another one, so that the ledger's books stay closed.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, bail, ensure};
use picopay_local::{LocalCluster, programs};
use picopay_shared::cluster::{Cluster, Shard};
use serde::Serialize;
use tokio::process::Command;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, NoTls};

use super::figure::rounded;
use super::pace::Pace;
use super::stand::Stand;

pub mod rated;

const DATABASE: &str = "baseline";

/// Connections of pgbench to a shard. Both numbers are tried, and the better one counts.
pub const CLIENTS: [u32; 2] = [32, 64];

/// pgbench's own threads; the machine that this is meant for has two cores.
const THREADS: &str = "2";

/// Without it, each new backend plans its first calls anew.
const OPTIONS: &str = "-c jit=off -c plan_cache_mode=force_generic_plan";

#[derive(Debug)]
pub struct Baseline {
    pgbench: PathBuf,
    script: PathBuf,
    shards: Vec<Place>,
    claimed: Vec<u64>,
}

#[derive(Debug)]
struct Place {
    config: Config,
    sockets: PathBuf,
    port: u16,
    user: String,
    password: String,
    users: i64,
    first_slot: i16,
    slots: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct BaselineRun {
    pub clients: u32,
    pub shards: usize,
    /// Charges a second, all together.
    pub per_second: f64,
    /// CPU time of the primaries for one charge, and of the replicas.
    pub cpu_us_per_charge: f64,
    /// When it began, since the cluster was there.
    pub began_s: f64,
    /// Charges in each measured second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<f64>,
}

impl Baseline {
    /// Makes the databases, with as many users as each shard has, and writes what pgbench runs into `sockets`.
    pub async fn prepare(stand: &Stand, sockets: &Path) -> anyhow::Result<Self> {
        let pgbench = programs::find_postgres()?.program("pgbench");
        ensure!(
            pgbench.is_file(),
            "{} is missing; it comes with PostgreSQL's server (Debian: postgresql, Red Hat: postgresql-contrib)",
            pgbench.display()
        );
        let script = sockets.join("charge_once.pgbench");
        std::fs::write(&script, include_str!("sql/charge_once.pgbench"))
            .with_context(|| format!("{} cannot be written", script.display()))?;
        let cluster = Cluster::load(&stand.cluster.cluster_file())?;
        let mut shards = Vec::new();
        for (position, shard) in cluster.shards.iter().enumerate() {
            let place = Place::prepare(&stand.cluster, position, shard, sockets);
            shards.push(place.await.with_context(|| format!("the baseline beside {}", shard.name))?);
        }
        Ok(Self { pgbench, script, claimed: vec![0; shards.len()], shards })
    }

    pub async fn run_round(&mut self, stand: &Stand, pace: &Pace) -> anyhow::Result<Vec<BaselineRun>> {
        let mut runs = Vec::new();
        for clients in CLIENTS {
            let mut widths = vec![1, self.shards.len()];
            widths.dedup();
            for shards in widths {
                let run = self.run(stand, pace, clients, shards).await?;
                eprintln!(
                    "baseline    {clients} clients on {shards} shard{}: {:.0}/s, {:.0} µs of PostgreSQL's CPU each",
                    if shards == 1 { "" } else { "s" },
                    run.per_second,
                    run.cpu_us_per_charge
                );
                runs.push(run);
            }
        }
        Ok(runs)
    }

    async fn run(
        &mut self,
        stand: &Stand,
        pace: &Pace,
        clients: u32,
        shards: usize,
    ) -> anyhow::Result<BaselineRun> {
        let began_s = stand.age_s();
        let before = stand.processes.cpu_times()?;
        let seconds = pace.baseline_warmup_s + pace.baseline_s;
        let started = self.shards[..shards].iter().map(|place| self.pgbench(place, clients, seconds, None));
        let outputs = run_all(started).await?;
        let spent = (stand.processes.cpu_times()? - before).servers;
        let skipped = usize::try_from(pace.baseline_warmup_s).expect("seconds fit a usize");
        let mut seconds: Vec<f64> = Vec::new();
        let mut charges = 0;
        for (claimed, output) in self.claimed.iter_mut().zip(&outputs) {
            *claimed += output.processed;
            charges += output.processed;
            for (second, per_second) in output.per_second.iter().skip(skipped).enumerate() {
                match seconds.get_mut(second) {
                    Some(sum) => *sum += per_second,
                    None => seconds.push(*per_second),
                }
            }
        }
        ensure!(!seconds.is_empty(), "pgbench told of no second after its warm-up");
        let per_second = rounded(seconds.iter().sum::<f64>() / seconds.len() as f64);
        let cpu_us_per_charge = rounded((spent.primary + spent.replica) * 1e6 / (charges.max(1) as f64));
        Ok(BaselineRun { clients, shards, per_second, cpu_us_per_charge, began_s, seconds })
    }

    /// Without a rate each client sends as soon as it was answered.
    fn pgbench(&self, of: &Place, clients: u32, seconds: u64, rate_per_second: Option<f64>) -> Command {
        let mut command = Command::new(&self.pgbench);
        command.arg("--no-vacuum").args(["--protocol", "prepared", "--jobs", THREADS, "--progress", "1"]);
        command.args(["--client", &clients.to_string()]);
        command.args(["--time", &seconds.to_string()]);
        if let Some(rate) = rate_per_second {
            command.args(["--rate", &rate.to_string()]);
        }
        for (name, value) in
            [("users", of.users), ("first_slot", i64::from(of.first_slot)), ("slots", of.slots)]
        {
            command.arg("--define").arg(format!("{name}={value}"));
        }
        command.arg("--file").arg(&self.script);
        command.arg("--host").arg(&of.sockets).args(["--port", &of.port.to_string()]);
        command.args(["--username", &of.user]).arg(DATABASE);
        command.env("PGPASSWORD", &of.password).env("PGOPTIONS", OPTIONS);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// A baseline that refused charges would be a fast one, so every charge that pgbench counted must be a row.
    pub async fn check(&self) -> anyhow::Result<()> {
        for (place, claimed) in self.shards.iter().zip(&self.claimed) {
            let sql = "SELECT count(*) FROM transactions WHERE kind = 'charge'";
            let booked: i64 = place.connect().await?.query_one(sql, &[]).await?.try_get(0)?;
            // Each client may have had one more under way when the time was over.
            let booked = u64::try_from(booked)?;
            ensure!(
                booked >= *claimed && booked <= claimed + 10_000,
                "pgbench counted {claimed} charges, and its database has {booked}"
            );
        }
        Ok(())
    }
}

impl Place {
    async fn prepare(
        cluster: &LocalCluster,
        position: usize,
        shard: &Shard,
        sockets: &Path,
    ) -> anyhow::Result<Self> {
        let ledger = cluster.connect_primary(position).await?;
        let row = ledger.query_one("SELECT count(*) FROM users", &[]).await?;
        let users: i64 = row.try_get(0)?;
        // `picopay init` deals each shard one range.
        let sql = "SELECT min(slot), count(*) FROM slot_owner WHERE state = 'owned'";
        let row = ledger.query_one(sql, &[]).await?;
        let (first_slot, slots) = (row.try_get(0)?, row.try_get(1)?);

        let mut config: Config = shard.primary.parse()?;
        let user = config.get_user().context("the connection string names no user")?.to_owned();
        let password =
            shard.password.as_ref().context("the local cluster has passwords")?.expose().to_owned();
        let superuser = cluster.connect_as_superuser(position).await?;
        superuser.batch_execute(&format!("CREATE DATABASE {DATABASE} OWNER \"{user}\"")).await?;
        config.password(&password).dbname(DATABASE).target_session_attrs(TargetSessionAttrs::ReadWrite);
        let place = Self {
            config,
            sockets: sockets.to_owned(),
            port: cluster.shard(position).primary_port(),
            user,
            password,
            users,
            first_slot,
            slots,
        };
        let mut client = place.connect().await?;
        let watcher = place.connect().await?;
        let patience = picopay_migrations::Patience::default();
        picopay_migrations::apply(&client, &watcher, &picopay_migrations::all(), patience, &mut |_| {})
            .await?;
        client.batch_execute(include_str!("sql/charge_once.sql")).await?;
        let fill = include_str!("sql/fill_baseline.sql")
            .replace("{first_slot}", &first_slot.to_string())
            .replace("{slots}", &slots.to_string())
            .replace("{users}", &users.to_string());
        let database = client.transaction().await?;
        database.batch_execute(&fill).await?;
        database.commit().await?;
        client.batch_execute("VACUUM ANALYZE").await?;
        Ok(place)
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let (client, connection) =
            self.config.connect(NoTls).await.context("no connection to the baseline")?;
        // It ends with the client, and what goes wrong on it the statements tell.
        tokio::spawn(connection);
        Ok(client)
    }
}

#[derive(Debug, PartialEq)]
struct Output {
    per_second: Vec<f64>,
    processed: u64,
}

async fn run_all(commands: impl Iterator<Item = Command>) -> anyhow::Result<Vec<Output>> {
    let started = commands.map(|mut command| command.spawn()).collect::<Result<Vec<_>, _>>();
    let mut outputs = Vec::new();
    // All run already; pgbench says a line a second, which a pipe holds until its turn comes.
    for child in started.context("pgbench cannot be started")? {
        let output = child.wait_with_output().await?;
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        outputs.push(Output::of(output.status, &said, &told)?);
    }
    Ok(outputs)
}

impl Output {
    fn of(status: ExitStatus, said: &str, told: &str) -> anyhow::Result<Self> {
        if !status.success() {
            bail!("pgbench failed ({status}): {}", told.trim());
        }
        Self::parse(said, told).with_context(|| format!("pgbench said: {said}{told}"))
    }

    /// pgbench prints a total on standard output, and each second a line on standard error: `progress: 3.0 s, 6234.1 tps,
    /// lat 5.1 ms stddev 1.2, 0 failed`.
    fn parse(said: &str, told: &str) -> Option<Self> {
        let value =
            |line: &str, name: &str| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok();
        let find = |name: &str| said.lines().find_map(|line| value(line, name));
        if find("number of failed transactions: ") != Some(0) {
            return None;
        }
        let tps = |line: &str| {
            let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
            rest.split_once(" tps")?.0.parse::<f64>().ok()
        };
        let per_second = told.lines().filter_map(tps).collect();
        Some(Self { per_second, processed: find("number of transactions actually processed: ")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_understood_and_a_failure_noticed() {
        // The second line is one of a fixed rate.
        let told = "pgbench (15.18)\nprogress: 1.0 s, 5123.4 tps, lat 6.2 ms stddev 1.0, 0 failed\n\
            progress: 2.0 s, 6001.0 tps, lat 5.3 ms stddev 1.1, 0 failed, lag 0.312 ms\n";
        let said = |failed: u32| {
            format!(
                "transaction type: x\nnumber of transactions actually processed: 11124\n\
                 number of failed transactions: {failed} (0.000%)\ntps = 5562.1 (without initial connection time)\n"
            )
        };
        let expected = Output { per_second: vec![5_123.4, 6_001.0], processed: 11_124 };
        assert_eq!(Output::parse(&said(0), told), Some(expected));
        assert_eq!(Output::parse(&said(3), told), None);
        assert_eq!(Output::parse("", told), None);
    }
}
