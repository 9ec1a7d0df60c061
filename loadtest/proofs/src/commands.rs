//! What the command line asks for, and what it exits with.

use picopay_loadtest::command_line::{Failure, GatewayArgs};
use picopay_proofs::smoke;

pub mod bench;
pub mod chaos;
pub mod compose;
pub mod grow;
pub mod patroni;
pub mod protect;
mod threads;
pub mod upgrade;

pub async fn smoke(args: &GatewayArgs) -> Result<(), Failure> {
    let target = args.target()?;
    Ok(smoke::run(target.url(), target.api_key(), args.cacert.as_deref()).await?)
}
