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

#[cfg(test)]
mod tests {
    use picopay_shared::cluster::Cluster;

    use super::*;

    #[test]
    fn user_and_password_go_over_what_the_url_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.toml");
        std::fs::write(folder.path().join("password"), "of-the-file\n").unwrap();
        for (more, user, password) in [
            ("", "of-the-url", "in-the-url"),
            ("redis_password_file = \"password\"", "of-the-url", "of-the-file"),
            ("redis_user = \"node\"\nredis_password_file = \"password\"", "node", "of-the-file"),
        ] {
            let text = format!(
                "internal_secret = \"0123456789abcdef0123456789abcdef\"\n[[shards]]\nname = \"a\"\n\
                 nodes = [\"http://x:1\"]\nprimary = \"host=x\"\n\
                 redis = \"rediss://of-the-url:in-the-url@127.0.0.1:1\"\n{more}\n"
            );
            std::fs::write(&file, text).unwrap();
            let cluster = Cluster::load(&file).unwrap();
            let client = redis_client(cluster.shard("a").unwrap()).unwrap().unwrap();
            let info = client.get_connection_info();
            assert!(matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, .. }), "{more}");
            let settings = info.redis_settings();
            assert_eq!((settings.username(), settings.password()), (Some(user), Some(password)), "{more}");
        }
    }
}
