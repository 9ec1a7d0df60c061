//! The charge service of one shard, with a promise broken on purpose: see `broken.rs`.

use std::process::ExitCode;

use picopay_shard_node::{broken, process};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    if let Err(reason) = broken::break_promise() {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    process::run().await
}
