//! `picopay-echo`: the gateway's front without shards behind it, so that a bench can tell what the front costs.
//!
//! It answers each charge at once and keeps nothing. With `--bare` it is hyper alone, as the gateway uses it: the body is
//! read and an answer of the usual size is sent. Without it everything is done that a gateway does before it asks a shard
//! and after it was answered.

mod echo {
    pub mod bare;
    pub mod front;
}

use std::path::PathBuf;

use clap::Parser;
use picopay_gateway_config::GatewayConfig;
use picopay_shared::runtime::{self, Share};
use tokio::net::TcpListener;

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The gateway's front without shards behind it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The cluster.toml of a cluster; none of its shards is asked for a charge.
    #[arg(long)]
    cluster: PathBuf,
    /// The gateway.toml whose keys and limits are in force.
    #[arg(long)]
    config: PathBuf,
    /// Only hyper: nothing is checked, parsed or decided.
    #[arg(long)]
    bare: bool,
}

/// Prints the address on which it listens. It serves until it is killed.
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = GatewayConfig::load(&arguments.config)?;
    runtime::start(config.worker_threads, Share::All)?.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    if arguments.bare {
        echo::bare::serve(listener).await
    } else {
        echo::front::serve(listener, &arguments.cluster, &arguments.config).await
    }
}
