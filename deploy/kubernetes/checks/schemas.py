"""Strict schemas: what Kubernetes would drop or refuse.

The command `kubernetes-validate` only warns about a kind that it does not know, and ends with 0. So its library is asked,
and every kind is either in the schemas or named here with who checks it instead.
"""

import functools
import json
import subprocess

import kubernetes_validate
from cloudcoil.models.prometheus_operator import v1
from kubernetes_validate import utils
from pydantic import ValidationError

from objects import name_of
from tools import TYPED

# Those on which the release of CloudNativePG runs whose types are used.
VERSIONS = ("1.34", "1.35", "1.36")

# `typed_faults` and `monitoring_faults` are about these.
ELSEWHERE = {
    ("postgresql.cnpg.io/v1", "Cluster"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}

# It would read 30 MB anew for each object.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)
seen = set()


def faults(objects):
    for one in objects.all:
        text = json.dumps(one, sort_keys=True)
        if text in seen:
            continue
        seen.add(text)
        yield from faults_of(one)


def faults_of(one):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except utils.SchemaNotFoundError:
            if (one["apiVersion"], one["kind"]) not in ELSEWHERE:
                yield f"{name_of(one)}: Kubernetes {version} does not know {one['apiVersion']} {one['kind']}"
        except utils.ValidationError as error:
            place = ".".join(str(step) for step in error.path)
            yield f"{name_of(one)}: Kubernetes {version}: {place}: {error.message}"


def typed_faults(objects):
    """What of the CloudNativePG objects does not come back from their types."""
    sent = json.dumps(objects.of("Cluster"))
    done = subprocess.run([TYPED], input=sent, capture_output=True, text=True)
    if done.returncode:
        yield from done.stderr.splitlines()


def monitoring_faults(objects):
    """The same for those of Prometheus' operator, by models that were made of its definitions."""
    for kind in ("ServiceMonitor", "PrometheusRule"):
        for one in objects.of(kind):
            try:
                read = getattr(v1, kind).model_validate(one)
            except ValidationError as error:
                yield f"{name_of(one)}: {error}"
                continue
            if read.model_dump(by_alias=True, exclude_unset=True, mode="json") != one:
                yield f"{name_of(one)}: a field of it is none of a {kind}"
