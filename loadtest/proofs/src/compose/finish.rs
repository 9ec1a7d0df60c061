//! What the ledger says in the end, of every acknowledgement and of each user.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, ensure};
use picopay_client::Client;
use serde::Serialize;
use serde_json::Value;

use super::project::{DEMO_KEY, Project};

#[derive(Debug, Serialize)]
pub struct Proof {
    pub acknowledged: u64,
    pub users: usize,
}

/// Nothing lost: `picopay verify` finds each acknowledgement. Nothing doubled: nobody was charged for more than that.
pub async fn prove(
    project: &Project,
    acks: &Path,
    acknowledged: u64,
    balances: &[(i64, u64)],
) -> anyhow::Result<Proof> {
    let folder = acks.parent().context("the file stands in a folder")?;
    // The container's user is nobody here.
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    std::fs::set_permissions(acks, Permissions::from_mode(0o644))?;
    let mount = format!("{}:/acks:ro", folder.display());
    let name = acks.file_name().context("a file has a name")?.to_string_lossy();
    let inside = format!("/acks/{name}");
    let verify = ["run", "--rm", "--no-deps", "--no-TTY", "--volume", &mount, "operator", "verify"];
    let arguments = [&verify[..], &["--acks", &inside, "--output", "json"]].concat();
    let said = project.compose(&arguments).await?;
    let report: Value = serde_json::from_str(&said).with_context(|| format!("picopay verify said {said}"))?;
    ensure!(report["is_proven"] == true, "picopay verify: {report:#}");
    ensure!(report["acks"]["acknowledged"] == acknowledged, "{acknowledged} acknowledged: {report:#}");
    let client = Client::new(&project.url(), DEMO_KEY)?;
    for (user, cents) in balances {
        let balance = client.balance(*user, "USD").await?.balance;
        ensure!(
            balance.minor_units() == Some(*cents),
            "user {user} has {} USD, and by the answers {cents} cents",
            balance.as_str()
        );
    }
    Ok(Proof { acknowledged, users: balances.len() })
}
