"""The values for which the chart is rendered: those of the example, with these over them."""


def shards(count):
    return [{"name": f"shard-{number}"} for number in range(1, count + 1)]


TLS = {
    "tls": {
        "enabled": True,
        "gateway": "picopay-gateway-tls",
        "node": "picopay-node-tls",
        "caller": "picopay-caller-tls",
        "redis": "picopay-redis-tls",
    }
}
MONITORING = {"monitoring.enabled": True, "monitoring.labels": {"release": "prometheus"}}

VARIANTS = {
    **{f"{count} shards": {"shards": shards(count)} for count in (1, 2, 8)},
    **{f"{count} shards, TLS, monitoring": {"shards": shards(count), **TLS, **MONITORING} for count in (1, 2, 8)},
    "TLS alone": TLS,
    "monitoring alone": MONITORING,
    "nothing that can be left out": {
        "redis.enabled": False,
        "toolbox.enabled": False,
        "gateway.autoscaling.enabled": False,
        "networkPolicies.enabled": False,
    },
    "everything that can be said": {
        "shards": [
            {"name": "shard-1", "nodes": 3, "instanceNumbers": [1, 3, 4], "storage": "500Gi"},
            {"name": "eu-west", "nodes": 1},
        ],
        "listen": "[::]",
        "image.tag": "0.1.0-rc1",
        "image.pullSecrets": [{"name": "registry"}],
        "gateway.publicUrl": "",
        # The least that the schema takes: the programs take it too.
        "gateway.drainSeconds": 0,
        "gateway.shutdownSeconds": 1,
        "gateway.requestSeconds": 3,
        "gateway.service": {"type": "LoadBalancer", "port": 8443, "annotations": {"a/b": "c"}},
        "gateway.allowedFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shops"}}}],
        "gateway.keys": [
            {
                "name": 'a "shop"',
                "digest": "sha256:" + "ab" * 32,
                "scopes": ["write", "read"],
                "expiresAt": "2030-01-01T00:00:00Z",
                "ratePerSecond": 100,
                "burst": 200,
            },
            {"name": "back office", "digest": "sha256:" + "cd" * 32, "scopes": ["admin"]},
        ],
        "postgres.parameters": {"max_connections": "500", "shared_buffers": "1GB"},
        "postgres.storage.class": "fast",
        "postgres.plugins": [{"name": "barman-cloud.cloudnative-pg.io", "isWALArchiver": True, "parameters": {"a": "b"}}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "pay", "operator": "Exists", "effect": "NoSchedule"}],
        **TLS,
    },
}

# What must be refused, with what the error must say.
REFUSED = {
    "no shards": ({"shards": []}, "'/shards': minItems: got 0, want 1"),
    "a shard without a name": ({"shards": [{"nodes": 2}]}, "'/shards/0': missing property 'name'"),
    "a name that DNS does not take": ({"shards": [{"name": "Shard_1"}]}, "'/shards/0/name'"),
    "two shards of one name": ({"shards": shards(1) * 2}, "two are called shard-1"),
    "instance numbers for fewer instances": (
        {"shards": [{"name": "shard-1", "instanceNumbers": [1, 2, 3]}], "postgres.instances": 5},
        "instanceNumbers of shard-1 are not postgres.instances (5) numbers",
    ),
    "a name that is too long": ({"shards": [{"name": "s" * 31}]}, "'/shards/0/name': maxLength: got 31, want 30"),
    "no secret for the database's password": (
        {"secrets.postgres": None},
        "'/secrets': missing property 'postgres'",
    ),
    "no secret for Redis": ({"secrets.redis": None}, "'/secrets': missing property 'redis'"),
    "no internal secret": ({"secrets.internal": None}, "'/secrets': missing property 'internal'"),
    "no cluster id": ({"clusterId": None}, "missing property 'clusterId'"),
    "a cluster id that is none": ({"clusterId": "prod"}, "'/clusterId'"),
    "an unknown key": ({"gateway.replica": 3}, "'/gateway': additional properties 'replica' not allowed"),
    "an unknown key at the top": ({"gatway": {}}, "additional properties 'gatway' not allowed"),
    "one gateway": ({"gateway.replicas": 1}, "'/gateway/replicas': minimum: got 1, want 2"),
    "two instances": ({"postgres.instances": 2}, "'/postgres/instances': minimum: got 2, want 3"),
    "no API key": ({"gateway.keys": []}, "'/gateway/keys': minItems: got 0, want 1"),
    "a key instead of its digest": (
        {"gateway.keys": [{"name": "a", "digest": "pk_secret", "scopes": ["read"]}]},
        "'/gateway/keys/0/digest'",
    ),
    "an unknown scope": (
        {"gateway.keys": [{"name": "a", "digest": "sha256:" + "ab" * 32, "scopes": ["pay"]}]},
        "'/gateway/keys/0/scopes/0': value must be one of 'topup'",
    ),
    "TLS without secrets": ({"tls.enabled": True}, "'/tls/gateway': minLength: got 0, want 1"),
    "a time with its unit": ({"gateway.drainSeconds": "10s"}, "'/gateway/drainSeconds': got string, want integer"),
    "an image that moves": ({"image.tag": "latest"}, "'/image/tag'"),
}
