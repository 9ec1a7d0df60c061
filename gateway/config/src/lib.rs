//! The configuration of a gateway: `gateway.toml`, read and checked.
//!
//! A crate of its own, because the operator's command also reads these files.

mod access_log;
mod api_key;
mod changeable;
mod gateway_config;
pub mod rfc3339;
mod running_config;
mod scope;

pub use self::access_log::{AccessLines, AccessLogConfig};
pub use self::api_key::{ApiKey, Expiry, Rate};
pub use self::changeable::Changeable;
pub use self::gateway_config::{
    AdminConfig, ENV_PREFIX, GatewayConfig, ServerConfig, TestingConfig, TransferStep,
};
pub use self::running_config::of_gateway;
pub use self::scope::Scope;
