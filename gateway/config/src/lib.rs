//! The configuration of a gateway: `gateway.toml`, read and checked.
//!
//! A crate of its own, because the operator's command also reads these files.

mod api_key;
mod gateway_config;
pub mod rfc3339;
mod running_config;
mod scope;

pub use self::api_key::{ApiKey, Expiry, Rate};
pub use self::gateway_config::{ENV_PREFIX, GatewayConfig, Keys, ServerConfig, TestingConfig, TransferStep};
pub use self::running_config::of_gateway;
pub use self::scope::Scope;
