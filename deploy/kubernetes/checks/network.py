"""Who may call whom: the NetworkPolicies are worked out for every pair of pods, and compared with the arrows of the design.

Both sides count: what may leave one pod must be let into the other. Outside the namespace there are no policies here.
"""

import ipaddress

from objects import selects

# Every port that somebody has or asks for, and two that nobody should.
PORTS = [("TCP", port) for port in (22, 53, 80, 443, 5432, 6379, 6443, 7100, 8000, 8080, 9090, 9187)] + [("UDP", 53)]
HERE = "picopay"


class Place:
    """A pod, or an address outside."""

    def __init__(self, name, labels=None, namespace=HERE, address=None):
        self.name, self.labels, self.namespace, self.address = name, labels or {}, namespace, address
        self.is_inside = namespace == HERE and address is None


def places(objects):
    found = {}
    for one, template in objects.workloads():
        labels = template["metadata"]["labels"]
        component, shard = labels["app.kubernetes.io/component"], labels.get("picopay/shard")
        # Jobs and the toolbox are all `operator`, and a policy sees no difference.
        found[f"{component} {shard}" if shard else component] = labels
    for cluster in objects.of("Cluster"):
        # As CloudNativePG labels its pods.
        name = cluster["metadata"]["name"]
        labels = {"cnpg.io/cluster": name, "cnpg.io/instanceName": f"{name}-1", "cnpg.io/podRole": "instance"}
        found[f"database {cluster['metadata']['labels']['picopay/shard']}"] = labels
    inside = [Place(name, labels) for name, labels in found.items()]
    return [
        *inside,
        Place("stranger", {"app": "other"}),
        Place("client", {}, "shops"),
        Place("dns", {"k8s-app": "kube-dns"}, "kube-system"),
        Place("prometheus", {}, "monitoring"),
        Place("cnpg", {"app.kubernetes.io/name": "cloudnative-pg"}, "cnpg-system"),
        Place("a pod beside cnpg", {}, "cnpg-system"),
        Place("internet", address="198.51.100.7"),
        Place("dns cache", address="169.254.20.10"),
    ]


def matches(peer, place):
    if "ipBlock" in peer:
        # Of a pod's address nothing is known: blocks here are for what is no pod.
        block = peer["ipBlock"]
        return place.address is not None and ipaddress.ip_address(place.address) in ipaddress.ip_network(block["cidr"])
    if place.address is not None:
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": place.namespace}
        if not selects(peer["namespaceSelector"], labels):
            return False
    elif place.namespace != HERE:
        return False
    return selects(peer.get("podSelector", {}), place.labels)


def is_let(policies, direction, pod, other, port):
    if not pod.is_inside:
        return True
    key, peers = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    mine = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not mine:
        return True
    for rule in (rule for spec in mine for rule in spec.get(key, [])):
        is_port = "ports" not in rule or port in [(one["protocol"], one["port"]) for one in rule["ports"]]
        is_peer = peers not in rule or any(matches(peer, other) for peer in rule[peers])
        if is_port and is_peer:
            return True
    return False


def allowed(objects, directions):
    """Who may call whom on which port, as far as these sides' policies decide it."""
    policies, all_places = objects.of("NetworkPolicy"), places(objects)
    return {
        (source.name, target.name, *port)
        for source in all_places
        for target in all_places
        # What is between two others is none of our business.
        if (source.is_inside or target.is_inside)
        for port in PORTS
        if "Egress" not in directions or is_let(policies, "Egress", source, target, port)
        if "Ingress" not in directions or is_let(policies, "Ingress", target, source, port)
    }


def expected(objects, is_monitored, clients):
    """The arrows of the design, and not one more."""
    outside = [place.name for place in places(objects) if not place.is_inside]
    inside = [place.name for place in places(objects) if place.is_inside]
    nodes = [f"node {shard}" for shard in objects.shards()]
    databases = [f"database {shard}" for shard in objects.shards()]
    redis = ["redis"] if "redis" in inside else []
    arrows = {(source, "gateway", 8080) for source in (outside if clients is None else clients)}
    arrows |= {(source, node, 7100) for source in ["gateway", "operator", *nodes] for node in nodes}
    arrows |= {(node, database, 5432) for node, database in zip(nodes, databases)}
    arrows |= {(source, one, 6379) for source in ["operator", *nodes] for one in redis}
    arrows |= {("operator", "gateway", 9090)} | {("operator", database, 5432) for database in databases}
    arrows |= {(source, database, port) for database in databases for source in (database, "cnpg") for port in (5432, 8000)}
    # The API server, and where backups go: anywhere outside.
    arrows |= {(database, target, port) for database in databases for target in outside for port in (443, 6443)}
    if is_monitored:
        arrows |= {("prometheus", "gateway", 9090)} | {("prometheus", node, 7100) for node in nodes}
    names = {(source, target, "TCP", port) for source, target, port in arrows}
    # Redis calls nobody.
    callers = [name for name in inside if name != "redis"]
    return names | {(source, dns, protocol, 53) for source in callers for dns in ("dns", "dns cache") for protocol in ("TCP", "UDP")}


def faults(objects, is_monitored, clients):
    arrows = expected(objects, is_monitored, clients)
    inside = [place.name for place in places(objects) if place.is_inside]
    databases = [f"database {shard}" for shard in objects.shards()]
    # Each side alone must not be wider either, for the other may be changed. But "anywhere" and "anybody" are no pods.
    to_anywhere = {(source, target, "TCP", port) for source in databases for target in inside for port in (443, 6443)}
    from_anybody = {(source, "gateway", "TCP", 8080) for source in inside} if clients is None else set()
    out = {arrow for arrow in arrows if arrow[0] in inside} | to_anywhere
    into = {arrow for arrow in arrows if arrow[1] in inside} | from_anybody
    yield from compare("may call", allowed(objects, {"Egress", "Ingress"}), arrows)
    left = {arrow for arrow in allowed(objects, {"Egress"}) if arrow[0] in inside}
    yield from compare("is let out to", left, out)
    entered = {arrow for arrow in allowed(objects, {"Ingress"}) if arrow[1] in inside}
    yield from compare("is let in by", entered, into)


def compare(words, found, wanted):
    yield from (f"missing: {source} {words} {target}: {protocol} {port}" for source, target, protocol, port in sorted(wanted - found))
    yield from (f"too much: {source} {words} {target}: {protocol} {port}" for source, target, protocol, port in sorted(found - wanted))
