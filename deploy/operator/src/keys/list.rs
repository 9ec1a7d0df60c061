//! `picopay keys list`: who may call, what, and until when.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use picopay_gateway_config::{ApiKey, GatewayConfig};
use serde::Serialize;

use crate::output::{self, OutputArgs};

#[derive(Debug, Args)]
pub struct ListArgs {
    /// The gateway's configuration file
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// The fields' names of `--output json` stay.
#[derive(Debug, Serialize)]
struct ListedKey {
    name: String,
    digest: String,
    scopes: Vec<&'static str>,
    /// Null when it never expires.
    expires_at: Option<String>,
    is_expired: bool,
    rate_per_second: Option<u32>,
}

pub fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let config = GatewayConfig::load(&args.config)?;
    let now = SystemTime::now();
    let listed: Vec<ListedKey> = config.keys.iter().map(|key| listed(key, now)).collect();
    args.output.print(&listed, |listed| text(listed));
    Ok(ExitCode::SUCCESS)
}

fn listed(key: &ApiKey, now: SystemTime) -> ListedKey {
    ListedKey {
        name: key.name.to_string(),
        digest: format!("sha256:{}", hex::encode(key.digest)),
        scopes: key.scopes.iter().map(|scope| scope.as_str()).collect(),
        expires_at: key.expires_at.map(|expiry| expiry.to_string()),
        is_expired: key.expires_at.is_some_and(|expiry| expiry.is_over(now)),
        rate_per_second: key.rate.map(|rate| rate.per_second.get()),
    }
}

fn text(listed: &[ListedKey]) -> String {
    let mut table = output::table(["key", "scopes", "requests", "expires"]);
    for key in listed {
        let rate = key.rate_per_second.map_or("any number".to_owned(), |rate| format!("{rate} a second"));
        let expires = match &key.expires_at {
            None => "never".to_owned(),
            Some(time) if key.is_expired => format!("{time}, expired"),
            Some(time) => time.clone(),
        };
        table.add_row([key.name.clone(), key.scopes.join(", "), rate, expires]);
    }
    table.to_string()
}
