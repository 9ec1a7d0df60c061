"""What the objects say of each other: ports, selectors, names, secrets, times."""

import re
import tomllib

from objects import container, name_of, ports, selects

# What deploy/observability calls them, and its rules ask for.
JOBS = {"picopay-gateway", "picopay-node"}

# How long a Kubernetes object waits more than the program may take.
MARGIN_SECONDS = 5


def toml(objects, config_map, file):
    return tomllib.loads(objects.named("ConfigMap", config_map)["data"][file])


def cluster_toml(objects):
    return toml(objects, "picopay-cluster", "cluster.toml")


def files_of(objects, name):
    """A workload's own file: gateway.toml or node.toml."""
    file = "gateway.toml" if name.endswith("-gateway") else "node.toml"
    return toml(objects, name, file)


def port_faults(objects):
    """Every port that something names is one on which its program listens."""
    for one, template in objects.workloads():
        named = ports(template)
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            asked = container(template).get(probe)
            port = asked and (asked.get("httpGet") or asked["tcpSocket"])["port"]
            if port and port not in named:
                yield f"{name_of(one)}: {probe} asks port {port}, and the container has {sorted(named)}"
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        if component in ("gateway", "node"):
            said = files_of(objects, one["metadata"]["name"])
            listens = {"http" if component == "gateway" else "node": said["listen"]}
            if component == "gateway":
                listens["admin"] = said["admin"]["listen"]
            listens = {name: int(address.rsplit(":", 1)[1]) for name, address in listens.items()}
            if listens != named:
                yield f"{name_of(one)}: it listens on {listens}, and its ports are {named}"
            if any(address.startswith("127.") for address in (said["listen"],)):
                yield f"{name_of(one)}: it listens to itself only"
    for service in objects.of("Service"):
        chosen = pods_of(objects, service)
        for port in service["spec"]["ports"]:
            target = port["targetPort"]
            if chosen and target not in ports(chosen[0][1]):
                yield f"{name_of(service)}: leads to port {target}, which {name_of(chosen[0][0])} has not"
            if service["spec"].get("clusterIP") == "None" and chosen and ports(chosen[0][1]).get(target) != port["port"]:
                yield f"{name_of(service)}: without an address of its own its port must be the pod's, not {port['port']}"


def pods_of(objects, service):
    selector = {"matchLabels": service["spec"]["selector"]}
    return [(one, template) for one, template in objects.workloads() if selects(selector, template["metadata"]["labels"])]


def selector_faults(objects):
    """Every selector selects what it is for, and nothing else."""
    for one, template in objects.workloads():
        selector = one["spec"].get("selector")
        if selector is None:
            continue
        for other, its in objects.workloads():
            if selects(selector, its["metadata"]["labels"]) != (other is one):
                yield f"{name_of(one)}: its selector is wrong about the pods of {name_of(other)}"
    for service in objects.of("Service"):
        chosen, wanted = pods_of(objects, service), service["spec"]["selector"]
        instance = wanted.get("cnpg.io/instanceName")
        if instance is None and len(chosen) != 1:
            yield f"{name_of(service)}: selects the pods of {[name_of(one) for one, _ in chosen]}"
        if instance is not None:
            cluster = objects.named("Cluster", wanted["cnpg.io/cluster"])
            if cluster is None or not re.fullmatch(re.escape(wanted["cnpg.io/cluster"]) + "-[0-9]+", instance):
                yield f"{name_of(service)}: CloudNativePG makes no instance {instance}"
    for budget in objects.of("PodDisruptionBudget"):
        selected = [one for one, its in objects.workloads() if selects(budget["spec"]["selector"], its["metadata"]["labels"])]
        if [one["metadata"]["name"] for one in selected] != [budget["metadata"]["name"]]:
            yield f"{name_of(budget)}: protects {[name_of(one) for one in selected]}"
    for scaler in objects.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        scaled = objects.named(target["kind"], target["name"])
        if scaled is None or "replicas" in scaled["spec"]:
            yield f"{name_of(scaler)}: {target['name']} is not there, or has a number of its own"
        elif "cpu" not in container(scaled["spec"]["template"])["resources"]["requests"]:
            yield f"{name_of(scaler)}: {target['name']} requests no processor, so there is no percentage of it"
    for monitor in objects.of("ServiceMonitor"):
        services = [one for one in objects.of("Service") if selects(monitor["spec"]["selector"], one["metadata"]["labels"])]
        if len(services) != 1:
            yield f"{name_of(monitor)}: selects {[name_of(one) for one in services]}"
            continue
        job = services[0]["metadata"]["labels"].get(monitor["spec"]["jobLabel"])
        if job not in JOBS:
            yield f"{name_of(monitor)}: its job is called {job}"
        known = {port["name"] for port in services[0]["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["port"] not in known:
                yield f"{name_of(monitor)}: {name_of(services[0])} has no port {endpoint['port']}"


def name_faults(objects):
    """Every name in cluster.toml leads to what it is for."""
    read = cluster_toml(objects)
    shards = {shard["name"]: shard for shard in read["shards"]}
    if sorted(shards) != objects.shards():
        yield f"cluster.toml names {sorted(shards)}, and there are databases of {objects.shards()}"
    for name, shard in shards.items():
        found = objects.workload("node", name)
        if found is None:
            yield f"{name}: there is no node"
            continue
        one, template = found
        if files_of(objects, one["metadata"]["name"])["shard"] != name:
            yield f"{name_of(one)}: its node.toml names another shard than its labels"
        service = objects.named("Service", one["spec"]["serviceName"])
        scheme = "https" if "tls" in read else "http"
        expected = [
            f"{scheme}://{one['metadata']['name']}-{number}.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
            for number in range(one["spec"]["replicas"])
        ]
        if shard["nodes"] != expected:
            yield f"{name}: cluster.toml names {shard['nodes']}, and the pods are {expected}"
        if not service["spec"].get("publishNotReadyAddresses") or service["spec"].get("clusterIP") != "None":
            yield f"{name_of(service)}: gives a pod that is not ready no name"
        yield from database_name_faults(objects, name, shard)
        redis = re.fullmatch(r"rediss?://([a-z0-9-]+):(\d+)", shard.get("redis", "redis://none:0"))
        leads = objects.named("Service", redis[1])
        if "redis" in shard and (leads is None or leads["spec"]["ports"][0]["port"] != int(redis[2])):
            yield f"{name}: there is no Redis at {shard['redis']}"
        if ("redis" in shard) != bool(objects.workload("redis")):
            yield f"{name}: Redis is there and not used, or the other way round"


def database_name_faults(objects, name, shard):
    (cluster,) = [one for one in objects.of("Cluster") if one["metadata"]["labels"]["picopay/shard"] == name]
    database, spec = cluster["metadata"]["name"], cluster["spec"]
    initdb = spec["bootstrap"]["initdb"]
    services = {
        one["metadata"]["name"]
        for one in objects.of("Service")
        if one["spec"]["selector"].get("cnpg.io/cluster") == database and one["spec"]["ports"][0]["port"] == 5432
    }
    for key, string, operators, attributes in [
        ("primary", shard["primary"], {f"{database}-rw"}, "read-write"),
        ("replicas", shard["replicas"][0], set(), "read-only"),
    ]:
        words = dict(word.split("=", 1) for word in string.split())
        hosts = words["host"].split(",")
        if set(hosts) != services | operators or len(hosts) != spec["instances"] + len(operators):
            yield f"{name}: {key} names {hosts}, and there are {sorted(services | operators)}"
        if (words["dbname"], words["user"]) != (initdb["database"], initdb["owner"]):
            yield f"{name}: {key} names another database or user than {database} is made with"
        if words["target_session_attrs"] != attributes or words["sslmode"] != "verify-full":
            yield f"{name}: {key} takes a server of another role, or any that says its name"
    if set(spec["certificates"]["serverAltDNSNames"]) != services:
        yield f"{name}: the certificates of {database} are not for {sorted(services)}"
    synchronous = {"method": "any", "number": 1, "dataDurability": "required", "failoverQuorum": True}
    if spec["postgresql"]["synchronous"] != synchronous or spec["primaryUpdateStrategy"] != "supervised":
        yield f"{name}: {database} may lose what was acknowledged"
    if "GRANT pg_monitor TO picopay" not in initdb["postInitApplicationSQL"]:
        yield f"{name}: nodes may not see the standbys of {database}"


def time_faults(objects):
    """Kubernetes kills later than a program takes to end by itself."""
    request = seconds(toml(objects, "picopay-gateway", "gateway.toml")["shard_client"]["request_timeout"])
    for one, template in objects.workloads():
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        if component not in ("gateway", "node"):
            continue
        said = files_of(objects, one["metadata"]["name"])
        shutdown = said["server"]["shutdown_timeout"] if component == "gateway" else said["shutdown_timeout"]
        needed = seconds(said["drain"]) + seconds(shutdown) + request + MARGIN_SECONDS
        given = template["spec"]["terminationGracePeriodSeconds"]
        if given < needed:
            yield f"{name_of(one)}: is killed after {given} s, and may take {needed} s"
    gateway = objects.named("Deployment", "picopay-gateway")
    if gateway["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "the gateway: a new release takes one away before another is there"
    scaler = objects.named("HorizontalPodAutoscaler", "picopay-gateway")
    least = scaler["spec"]["minReplicas"] if scaler else gateway["spec"]["replicas"]
    if least < 2:
        yield f"the gateway: {least} is not two"


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def secret_faults(objects, made):
    """Every key of a secret that is used is made: by secrets.sh (`made`: name → object), or by CloudNativePG."""
    operators = {f"{cluster['metadata']['name']}-ca": {"ca.crt", "ca.key"} for cluster in objects.of("Cluster")}
    for one, template in objects.workloads():
        for secret, key in secret_keys(template):
            known = operators.get(secret) or set(made.get(secret, {}).get("data", {}))
            if key not in known:
                yield f"{name_of(one)}: nobody makes the key {key} of the secret {secret}"
    for cluster in objects.of("Cluster"):
        named = cluster["spec"]["bootstrap"]["initdb"]["secret"]["name"]
        if made.get(named, {}).get("type") != "kubernetes.io/basic-auth":
            yield f"{name_of(cluster)}: nobody makes the secret {named}"
    for monitor in objects.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            tls = endpoint.get("tlsConfig")
            for place in (tls["ca"]["secret"], tls["cert"]["secret"], tls["keySecret"]) if tls else ():
                if place["key"] not in made.get(place["name"], {}).get("data", {}):
                    yield f"{name_of(monitor)}: nobody makes the key {place['key']} of the secret {place['name']}"


def secret_keys(template):
    for volume in template["spec"].get("volumes", []):
        for source in volume.get("projected", {}).get("sources", []):
            if "secret" in source:
                # Without items, all keys would come, and a file of any name.
                yield from ((source["secret"]["name"], item["key"]) for item in source["secret"]["items"])
    for variable in container(template).get("env", []):
        if "valueFrom" in variable:
            place = variable["valueFrom"]["secretKeyRef"]
            yield place["name"], place["key"]


def hook_faults(objects):
    """What runs before an upgrade needs nothing that the upgrade makes: the databases of new shards are not there yet."""
    for one, template in objects.workloads():
        if one["metadata"].get("annotations", {}).get("helm.sh/hook") != "pre-upgrade":
            continue
        for source in template["spec"]["volumes"][0]["projected"]["sources"]:
            secret = source.get("secret", {})
            is_later = secret.get("name", "").startswith("picopay-db-")
            if is_later and not secret.get("optional"):
                yield f"{name_of(one)}: waits for the secret {secret['name']}, which comes after it"


def security_faults(objects):
    """No pod of ours has more than it needs."""
    for one, template in objects.workloads():
        pod, inside = template["spec"], container(template)["securityContext"]
        is_tight = (
            pod["automountServiceAccountToken"] is False
            and pod["securityContext"]["runAsUser"] == 65532
            and pod["securityContext"]["runAsNonRoot"]
            and inside["readOnlyRootFilesystem"]
            and inside["capabilities"] == {"drop": ["ALL"]}
            and inside["allowPrivilegeEscalation"] is False
            and "memory" in container(template)["resources"]["limits"]
        )
        if not is_tight:
            yield f"{name_of(one)}: may do more than it needs"
        if container(template)["image"].endswith(":latest") or ":" not in container(template)["image"]:
            yield f"{name_of(one)}: its image moves"
