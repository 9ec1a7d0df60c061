"""The objects of one rendering, and what is asked of them again and again."""

import yaml


class Objects:
    def __init__(self, text):
        self.all = [one for one in yaml.safe_load_all(text) if one]
        for one in self.all:
            one["metadata"].setdefault("labels", {})

    def of(self, kind):
        return [one for one in self.all if one["kind"] == kind]

    def named(self, kind, name):
        return next((one for one in self.of(kind) if one["metadata"]["name"] == name), None)

    def workloads(self):
        """What has pods of its own, with the pods' template."""
        kinds = ("Deployment", "StatefulSet", "Job")
        return [(one, one["spec"]["template"]) for one in self.all if one["kind"] in kinds]

    def workload(self, component, shard=None):
        for one, template in self.workloads():
            labels = template["metadata"]["labels"]
            if labels["app.kubernetes.io/component"] == component and labels.get("picopay/shard") == shard:
                return one, template

    def shards(self):
        return sorted({one["metadata"]["labels"]["picopay/shard"] for one in self.of("Cluster")})


def selects(selector, labels):
    """Whether a label selector selects these labels; an empty one selects everything."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "NotIn":
            raise ValueError(f"nothing is known about {rule['operator']}")
        if labels.get(rule["key"]) in rule["values"]:
            return False
    return True


def container(template):
    (only,) = template["spec"]["containers"]
    return only


def ports(template):
    """The named ports of a pod."""
    return {port["name"]: port["containerPort"] for port in container(template).get("ports", [])}


def name_of(one):
    return f"{one['kind']} {one['metadata']['name']}"
