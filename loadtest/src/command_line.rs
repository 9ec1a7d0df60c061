//! What the command lines of the load test and of the proofs have in common.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::http_client::target::Target;
use crate::run::Stop;

/// Why the program ends with something else than 0.
#[derive(Debug)]
pub struct Failure {
    pub cause: anyhow::Error,
    pub code: u8,
}

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self { cause, code: 1 }
    }
}

pub fn usage(cause: anyhow::Error) -> Failure {
    Failure { cause, code: 2 }
}

/// Which gateway, and who asks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayArgs {
    /// The gateway's base URL.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// A key with the scopes read and write. Without one, the demo key is tried, on this machine only.
    #[arg(long, env = "PICOPAY_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// For an https URL: the file with the authority that signed the gateway's certificate [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

impl GatewayArgs {
    pub fn target(&self) -> Result<Target, Failure> {
        Target::trusting(&self.url, self.api_key.as_deref(), self.cacert.as_deref()).map_err(usage)
    }
}

pub fn parse_note(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Prints the reason. 0: all is well. 1: a promise was broken, or the load could not run. 2: the command line is wrong.
pub fn exit_code(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {:#}", error.cause);
            ExitCode::from(error.code)
        }
    }
}

/// The second one ends the program.
pub async fn stop_on_signal(stop: Stop) {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => if interrupted.is_err() { return },
        () = terminated => {}
    }
    stop.now();
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}
