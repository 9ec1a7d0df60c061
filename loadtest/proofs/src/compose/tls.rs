//! The overlay with TLS on every hop: who is let in and who is not, that each connection is encrypted, and that `down` and
//! `up` keep the certificates. Meanwhile a standby loses its volume, and is copied anew over TLS.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use picopay_client::{Client, Patience, Tls};
use serde::Serialize;

use super::drill::START_MAX;
use super::project::{DEMO_KEY, Project, docker};
use super::{begin, hardening};

const FILES: [&str; 2] = ["compose.yaml", "compose.tls.yaml"];
/// In every container that has the prepared volume.
const CERTS: &str = "/run/picopay/certs";
/// Whose keys the user of this service's container may read.
const READERS: [(&str, &[&str]); 3] = [
    ("gateway", &["gateway", "node", "caller", "picopay"]),
    ("shard-1-a", &["postgres", "replicator"]),
    ("redis", &["redis"]),
];
/// Of everybody who came over the network, standbys too.
const CONNECTIONS: &str = "SELECT count(*) FILTER (WHERE usename = 'replicator' AND ssl), \
                           count(*) FILTER (WHERE usename = 'picopay' AND ssl), count(*) FILTER (WHERE NOT ssl) \
                           FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL";

#[derive(Debug, Serialize)]
pub struct TlsSummary {
    pub started_s: f64,
    pub refused: usize,
    pub took_s: f64,
}

/// Somebody who shall not be let in.
struct Intruder {
    service: &'static str,
    command: String,
    /// What the refusal says.
    words: &'static str,
}

/// In a short run only the standby is taken away in between, and not everything.
pub async fn run(source: &Path, tag: &str, is_short: bool) -> anyhow::Result<TlsSummary> {
    let project = Project::copy_of(source, &FILES, tag)?;
    let started = Instant::now();
    project.up(&[]).await.context("docker compose up --wait, over TLS")?;
    let start = started.elapsed();
    eprintln!("the cluster over TLS was up after {:.1} s", start.as_secs_f64());
    ensure!(start <= START_MAX, "it took longer than {} s", START_MAX.as_secs());
    hardening::check(&project).await?;
    check_keys(&project).await?;
    let file = project.path("ca.pem");
    let authority = read_authority(&project).await?;
    std::fs::write(&file, &authority)?;
    let url = format!("https://{}", project.address());
    let client = Client::with_tls(&url, DEMO_KEY, &Tls::trusting(&file))?;
    begin::charge_as_readme(&client).await.context("README's charge over https")?;
    project.operator(&["verify"]).await.context("picopay verify over TLS")?;
    check_connections(&project).await?;
    let refused = check_refusals(&project, &url).await?;

    let end: &[&str] = if is_short { &["rm", "--stop", "--force", "shard-1-b"] } else { &["down"] };
    project.compose(end).await?;
    docker(&["volume", "rm", &project.volume_of("shard-1-b")]).await?;
    project.up(&[]).await.context("the second start, over TLS")?;
    ensure!(read_authority(&project).await? == authority, "a second `up` made another authority");
    begin::check_balance(&client).await.context("after the second start, over TLS")?;
    check_connections(&project).await.context("after shard-1-b was copied anew")?;
    project.remove().await?;
    Ok(TlsSummary { started_s: start.as_secs_f64(), refused, took_s: started.elapsed().as_secs_f64() })
}

async fn read_authority(project: &Project) -> anyhow::Result<String> {
    Ok(project.shell("gateway", &format!("cat {CERTS}/ca.pem")).await? + "\n")
}

async fn check_keys(project: &Project) -> anyhow::Result<()> {
    for (service, own) in READERS {
        let list = format!(
            "cd {CERTS} && for key in *.key; do cat $key > /dev/null 2>&1 && echo ${{key%.key}}; done; true"
        );
        let read = project.shell(service, &list).await?;
        let mut expected = own.to_vec();
        expected.sort_unstable();
        ensure!(read.lines().eq(expected), "{service} can read the keys of {read:?}");
    }
    ensure!(
        project.shell("gateway", "ls /run/authority").await.is_err(),
        "a gateway has the authority's key"
    );
    Ok(())
}

/// Of both shards: one standby and the node are there, encrypted, and nobody is in plain text.
async fn check_connections(project: &Project) -> anyhow::Result<()> {
    for primary in ["shard-1-a", "shard-2-a"] {
        let ask = format!("psql -XAt --username=postgres --dbname=postgres --command=\"{CONNECTIONS}\"");
        let said = project.shell(primary, &ask).await?;
        let counts: Vec<usize> = said.split('|').filter_map(|count| count.parse().ok()).collect();
        let [standbys, services, plain] = counts[..] else { anyhow::bail!("{primary} said {said}") };
        ensure!(
            standbys == 1 && services > 0 && plain == 0,
            "{primary}: encrypted {standbys} standbys and {services} connections of services, {plain} in plain text"
        );
    }
    Ok(())
}

async fn check_refusals(project: &Project, url: &str) -> anyhow::Result<usize> {
    for (whose, url) in [("in plain text", project.url().as_str()), ("that does not know the authority", url)]
    {
        let client = Client::new(url, DEMO_KEY)?.with_patience(Patience::none());
        ensure!(client.balance(1, "USD").await.is_err(), "the gateway answers a client {whose}");
    }
    let all = intruders();
    for Intruder { service, command, words } in &all {
        match project.shell(service, command).await {
            Ok(said) => anyhow::bail!("{service} was let in by `{command}`: {said}"),
            Err(refusal) => {
                ensure!(
                    format!("{refusal:#}").contains(words),
                    "`{command}` was refused otherwise: {refusal:#}"
                );
            }
        }
    }
    Ok(2 + all.len())
}

/// Beside each of them somebody is let in: the health checks, the nodes and the standbys.
fn intruders() -> Vec<Intruder> {
    let replicator =
        "host=shard-1-a user=replicator replication=true passfile=/run/picopay/replicator.pgpass";
    let stand_by = |words: &str| format!("psql -X '{replicator} {words}' --command='IDENTIFY_SYSTEM'");
    let serve = |words: &str| {
        format!(
            "PGPASSWORD=$(cat /run/picopay/picopay) psql -X 'host=shard-1-a user=picopay {words}' --command='SELECT 1'"
        )
    };
    let ask_node =
        |scheme: &str, words: &str| format!("picopay health {scheme}://shard-1-node:8081/health {words}");
    let replicators = format!("sslmode=require sslcert={CERTS}/replicator.pem sslkey={CERTS}/replicator.key");
    let ping =
        |words: &str| format!("REDISCLI_AUTH=$(cat /run/picopay/redis) redis-cli -h redis {words} ping");
    [
        ("shard-1-b", stand_by("sslmode=disable"), "no encryption"),
        ("shard-1-b", stand_by("sslmode=require"), "requires a valid client certificate"),
        ("shard-1-b", serve("sslmode=disable"), "no encryption"),
        // The right password, and the certificate of somebody else: PostgreSQL does not say more.
        ("shard-1-b", serve(&replicators), "password authentication failed"),
        ("gateway", ask_node("http", ""), "does not answer"),
        ("gateway", ask_node("https", &format!("--cacert={CERTS}/ca.pem")), "does not answer"),
        ("redis", ping(""), "Error"),
        ("redis", ping(&format!("--tls --cacert {CERTS}/ca.pem")), "Error"),
    ]
    .map(|(service, command, words)| Intruder { service, command, words })
    .into()
}
