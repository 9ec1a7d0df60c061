//! `picopay health`: whether a service answers, by the exit code. For probes in images without curl.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::Uri;
use picopay_local::http_call;
use picopay_shared::config::human_duration;

#[derive(clap::Args)]
pub struct HealthArgs {
    /// The address of a gateway or a node, for example http://127.0.0.1:8080/readyz. Without a path, /health is asked
    url: String,
    /// How long the answer may take
    #[arg(long, default_value = "2s", value_parser = read_duration)]
    timeout: Duration,
}

fn read_duration(text: &str) -> Result<Duration, String> {
    human_duration::parse(text).ok_or_else(|| "write for example 500ms or 2s".to_owned())
}

pub async fn run(HealthArgs { url, timeout }: HealthArgs) -> anyhow::Result<ExitCode> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let is_asked = uri.host().is_some() && uri.scheme_str() == Some("http");
    ensure!(is_asked, "{url} cannot be asked: write for example http://127.0.0.1:8080/readyz");
    let asked = if uri.path() == "/" { format!("{}/health", url.trim_end_matches('/')) } else { url };
    let Ok(answer) = tokio::time::timeout(timeout, http_call::get(&asked)).await else {
        bail!("{asked} does not answer within {} ms", timeout.as_millis());
    };
    let answer = answer.map_err(|error| anyhow::anyhow!("{asked} does not answer: {error}"))?;
    let code = answer.json()["code"].as_str().map(|code| format!(", {code}")).unwrap_or_default();
    ensure!(answer.status == 200, "{asked} answers {}{code}", answer.status);
    Ok(ExitCode::SUCCESS)
}
