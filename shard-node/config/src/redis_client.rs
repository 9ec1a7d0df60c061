//! How a shard's Redis is entered: the one place that makes its client.

use std::error::Error;
use std::io;
use std::sync::Arc;

use picopay_shared::cluster::Shard;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, RedisError, RedisResult,
    TlsCertificates,
};

/// A client of the shard's Redis, which connects when first used; `None` without one.
///
/// # Errors
/// When its URL is not valid.
pub fn redis_client(shard: &Shard) -> RedisResult<Option<Client>> {
    let Some(url) = &shard.redis else { return Ok(None) };
    let access = &shard.redis_access;
    let mut info = url.as_str().into_connection_info()?;
    let mut settings = info.redis_settings().clone();
    if let Some(user) = &access.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &access.password {
        settings = settings.set_password(password.expose());
    }
    info = info.set_redis_settings(settings);
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Client::open(info).map(Some);
    }
    // This library takes the provider of the process, and panics without one.
    picopay_tls::provider();
    let client_tls =
        access.identity.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    let certificates = TlsCertificates { client_tls, root_cert: access.authorities.clone() };
    Client::build_with_tls(info, certificates).map(Some)
}

/// Why Redis cannot be used, in one line; what comes from TLS says which side refused and why.
pub fn redis_trouble(error: &RedisError) -> String {
    // The library hands its causes out in a box of their own.
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    io.map_or_else(|| error.to_string(), picopay_tls::describe)
}
