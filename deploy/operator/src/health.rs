//! `picopay health`: whether a service answers, by the exit code. For probes in images without curl.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use picopay_shared::config::human_duration;
use picopay_tls::{Authorities, Caller, Connector, Identity, refused_certificate};
use serde_json::Value;

use crate::probe::root_cause;

/// More than any problem.
const BODY_BYTES_MAX: usize = 1 << 20;

const EXIT_CODES: &str = "Exit code 0: the answer is 200. 1: it is another one, or none came in time, or one side refused \
                          the other's certificate. 2: the command line is wrong.";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct HealthArgs {
    /// The address of a gateway or a node, for example https://10.0.0.1:8080/readyz. Without a path, /health is asked
    #[arg(value_parser = read_address)]
    url: Uri,
    /// How long the answer may take
    #[arg(long, default_value = "2s", value_parser = read_duration)]
    timeout: Duration,
    /// For an https address: the file with the authority that signed its certificate [default: the system's]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// For an https address that demands one, as nodes do: the certificate to show
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl HealthArgs {
    fn caller(&self) -> anyhow::Result<Caller> {
        let authorities = match &self.cacert {
            Some(file) => Authorities::read(file).context("--cacert")?,
            None => Authorities::of_system().context("name the authority's file with --cacert")?,
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(Identity::read(cert, key).context("--cert, --key")?),
            _ => None,
        };
        Ok(Caller { authorities, identity })
    }
}

fn read_address(text: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok();
    uri.filter(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| "write for example http://127.0.0.1:8080/readyz".to_owned())
}

fn read_duration(text: &str) -> Result<Duration, String> {
    human_duration::parse(text).ok_or_else(|| "write for example 500ms or 2s".to_owned())
}

pub async fn run(args: HealthArgs) -> anyhow::Result<ExitCode> {
    let url = &args.url;
    let caller = if url.scheme_str() == Some("https") { Some(args.caller()?) } else { None };
    let connector = Connector::to_gateways(caller.as_ref(), args.timeout)?;
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let asked = url.to_string();
    let asked = if url.path() == "/" { format!("{}/health", asked.trim_end_matches('/')) } else { asked };
    let request = Request::get(&asked).body(Empty::<Bytes>::new())?;
    let asking = async {
        let answer = client.request(request).await.map_err(|error| {
            let reason = refused_certificate(&error).unwrap_or_else(|| root_cause(&error));
            anyhow!("{asked} does not answer: {reason}")
        })?;
        let (status, body) =
            (answer.status(), Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await);
        let body = body.map_err(|error| anyhow!("{asked} broke its answer off: {error}"))?;
        Ok::<_, anyhow::Error>((status, body.to_bytes()))
    };
    let Ok(answer) = tokio::time::timeout(args.timeout, asking).await else {
        bail!("{asked} does not answer within {} ms", args.timeout.as_millis());
    };
    let (status, body) = answer?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = body["code"].as_str().map(|code| format!(", {code}")).unwrap_or_default();
    ensure!(status == StatusCode::OK, "{asked} answers {}{code}", status.as_u16());
    Ok(ExitCode::SUCCESS)
}
