//! The configuration that a node uses, for operators: its shard's databases and Redis, without any secret.

use picopay_postgres::describe_servers;
use picopay_shared::cluster::{Cluster, Durability, Shard};
use picopay_shared::running_config::{RunningConfig, RunningShard, Salt};

/// What a node of `shard` uses of this `cluster.toml`. Without an entry, the answer names no shard.
pub fn of_node(cluster: &Cluster, shard: &str, salt: Salt) -> RunningConfig {
    let shards = cluster.shard(shard).map(|entry| own_shard(entry, &salt)).into_iter().collect();
    RunningConfig::new(salt, &cluster.internal_secret, shards).with_cluster_id(cluster.cluster_id())
}

fn own_shard(entry: &Shard, salt: &Salt) -> RunningShard {
    let mut told = RunningShard::new(&entry.name).with_hidden(
        salt,
        "primary",
        &entry.primary,
        &describe_servers(&entry.primary),
    );
    if !entry.replicas.is_empty() {
        let shown: Vec<String> = entry.replicas.iter().map(|replica| describe_servers(replica)).collect();
        // No connection string contains a line end.
        told = told.with_hidden(salt, "replicas", &entry.replicas.join("\n"), &shown.join("; "));
    }
    if let Some(password) = &entry.password {
        told = told.with_hidden(salt, "password", password.expose(), "a secret");
    }
    if let Some(url) = &entry.redis {
        let address = redis::Client::open(url.as_str())
            .map_or_else(|_| "no URL".to_owned(), |client| client.get_connection_info().addr().to_string());
        told = told.with_hidden(salt, "redis", url, &address);
    }
    if let Some(password) = &entry.redis_access.password {
        told = told.with_hidden(salt, "redis_password", password.expose(), "a secret");
    }
    let durability = match entry.durability {
        Durability::Replicated => "replicated",
        Durability::Local => "local",
    };
    told.with(salt, "durability", durability)
}

#[cfg(test)]
mod tests {
    use picopay_shared::cluster::{DatabaseCertificates, RedisAccess};
    use picopay_shared::config::Secret;

    use super::*;

    #[test]
    fn an_operator_sees_where_it_leads_and_no_password() {
        let cluster = Cluster {
            internal_secret: Secret::new("s3cret"),
            caller: None,
            shards: vec![Shard {
                name: "a".into(),
                cluster_id: None,
                nodes: vec!["http://x:1".into()],
                primary: "postgresql://picopay:s3cret@10.0.0.2,10.0.0.3:5433/picopay".into(),
                replicas: vec!["host=10.0.0.4 dbname=picopay user=picopay password='s3cret'".into()],
                password: Some(Secret::new("s3cret")),
                certificates: DatabaseCertificates::default(),
                redis: Some("redis://:s3cret@10.0.0.5:6379/1".into()),
                redis_access: RedisAccess::default(),
                durability: Durability::Replicated,
            }],
        };
        let told = serde_json::to_string(&of_node(&cluster, "a", Salt::random())).unwrap();
        assert!(!told.contains("s3cret"), "{told}");
        for needle in
            ["10.0.0.2:5432,10.0.0.3:5433/picopay", "10.0.0.4:5432/picopay", "10.0.0.5:6379", "replicated"]
        {
            assert!(told.contains(needle), "{needle} in {told}");
        }
        assert!(of_node(&cluster, "b", Salt::random()).shards.is_empty());
    }
}
