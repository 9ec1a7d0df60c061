//! `picopay demo`: two users to charge, for whoever tries a cluster out. `picopay up` makes the same.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::Method;
use picopay_local::http_call::{self, Answer, CallError};
use picopay_shared::config::human_duration;
use picopay_tls::{Authorities, Caller};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::output::print;

/// Always the same, so that a second time replays the first top-up. Keys are each user's own.
const TOPUP_KEY: &str = "00000000-0000-4000-8000-000000000001";

const TRY_AGAIN: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct DemoArgs {
    /// The address of a gateway, for example http://127.0.0.1:8080
    gateway: String,
    /// An API key with the scope `admin`. Without one, or with an empty one, nothing is done
    #[arg(long, env = "PICOPAY_DEMO_KEY", hide_env_values = true, default_value = "")]
    key: String,
    /// How long to wait for shards that do not serve yet
    #[arg(long, default_value = "60s", value_parser = read_duration)]
    patience: Duration,
    /// For an https address: the file with the authority that signed its certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

fn read_duration(text: &str) -> Result<Duration, String> {
    human_duration::parse(text).ok_or_else(|| "write for example 500ms or 60s".to_owned())
}

pub async fn run(DemoArgs { gateway, key, patience, cacert }: DemoArgs) -> anyhow::Result<ExitCode> {
    if key.is_empty() {
        print("There is no demo key, so no demo users were made.");
        return Ok(ExitCode::SUCCESS);
    }
    if gateway.starts_with("https://") {
        let authorities = match &cacert {
            Some(file) => Authorities::read(file).context("--cacert")?,
            None => Authorities::of_system().context("name the authority's file with --cacert")?,
        };
        http_call::call_as(Caller { authorities, identity: None });
    }
    let started = Instant::now();
    let gateway = gateway.trim_end_matches('/');
    let ask = async |path: &str, idempotency_key: Option<&str>, body: &Value| {
        let (url, body) = (format!("{gateway}{path}"), body.to_string());
        let mut headers = vec![("x-api-key", key.as_str())];
        headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
        loop {
            let answer = http_call::call(Method::POST, &url, &headers, &body).await;
            let is_passing = answer.as_ref().map_or(true, |answer| matches!(answer.status, 429 | 503 | 504));
            if !is_passing || started.elapsed() >= patience {
                return answer;
            }
            sleep(TRY_AGAIN).await;
        }
    };
    make_users(ask).await?;
    print("Users 1 and 2 were given 1000.00 USD each, once.");
    Ok(ExitCode::SUCCESS)
}

/// Users 1 and 2 with 1000.00 USD each, through the gateway as anybody would do it.
///
/// # Errors
/// When the gateway does not answer, or refuses.
pub async fn make_users(
    ask: impl AsyncFn(&str, Option<&str>, &Value) -> Result<Answer, CallError>,
) -> anyhow::Result<()> {
    for user in [1, 2] {
        let failed = || format!("demo user {user} could not be made");
        let made = ask("/users", None, &json!({"user_id": user})).await.with_context(failed)?;
        expect_success(&made).with_context(failed)?;
        let topup = json!({"user_id": user, "amount": "1000.00", "currency": "USD"});
        let topped_up = ask("/topup", Some(TOPUP_KEY), &topup).await.with_context(failed)?;
        expect_success(&topped_up).with_context(failed)?;
    }
    Ok(())
}

fn expect_success(answer: &Answer) -> anyhow::Result<()> {
    if !(200..300).contains(&answer.status) {
        bail!("the gateway answered {}: {}", answer.status, answer.body);
    }
    Ok(())
}
