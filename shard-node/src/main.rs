//! The charge service of one shard.

use std::process::ExitCode;

use picopay_shard_node::process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::run()
}
