"""Checks the chart: every rendering of it, and what must be refused. One line for each check, and all faults of one.

    main.py [--write]
"""

import copy
import difflib
import pathlib
import re
import shutil
import sys
import tempfile
import tomllib

import yaml

import network
import pods
import programs
import schemas
from objects import Objects
from tools import CHART, EXAMPLE, NAMESPACE, ROOT, helm, template
from variants import REFUSED, VARIANTS

RULES = CHART / "files/rules"
# Who writes the rules for everybody. A chart cannot read beyond its own folder, so it has a copy.
RULES_SOURCE = ROOT / "deploy/observability/rules"
HEAD = "# Written by `make chart ARGS=--write`: the chart with example/values.yaml. Changes here are lost.\n"

passed, failed = 0, 0


def check(name, faults):
    global passed, failed
    try:
        found = list(faults)
    except Exception as error:  # Whatever is missing in a rendering is a fault of the rendering.
        found = [f"{type(error).__name__}: {error}"]
    if found:
        failed += 1
        print(f"FAILED  {name}", *(f"        {fault}" for fault in found), sep="\n", flush=True)
    else:
        passed += 1
        print(f"ok      {name}", flush=True)


def rendered_files():
    """The example's files, for people without Helm."""
    all_but_hooks, hooks = template({}, "--no-hooks"), template({}, "--show-only", "templates/migrate.yaml")
    return {"picopay.yaml": HEAD + all_but_hooks[1], "migrate.yaml": HEAD + hooks[1]}


def write():
    if RULES_SOURCE.is_dir():
        shutil.rmtree(RULES)
        RULES.mkdir()
        for rules in sorted(RULES_SOURCE.glob("*.y*ml")):
            shutil.copy(rules, RULES)
    for name, text in rendered_files().items():
        (EXAMPLE / name).write_text(text)


def example_faults():
    for name, text in rendered_files().items():
        there = (EXAMPLE / name).read_text() if (EXAMPLE / name).exists() else ""
        if there != text:
            yield f"example/{name} is not what the chart renders: make chart ARGS=--write"
            yield from list(difflib.unified_diff(there.splitlines(), text.splitlines(), lineterm="", n=1))[:20]


def rules_faults():
    def texts(folder):
        return {rules.name: rules.read_text() for rules in folder.glob("*.y*ml")}

    if RULES_SOURCE.is_dir() and texts(RULES) != texts(RULES_SOURCE):
        yield f"picopay/files/rules is not what {RULES_SOURCE.relative_to(ROOT)} has: make chart ARGS=--write"
    rule_groups = [group for text in texts(RULES).values() for group in yaml.safe_load(text)["groups"]]
    (rendered,) = Objects(template({"monitoring.enabled": True})[1]).of("PrometheusRule")
    names = {group["name"] for group in rendered["spec"]["groups"]}
    asked = {job for text in texts(RULES).values() for job in re.findall(r'job="([^"]*)"', text)}
    if not asked <= pods.JOBS:
        yield f"a rule asks for the job {sorted(asked - pods.JOBS)}, and Prometheus sees {sorted(pods.JOBS)}"
    if not rule_groups or names != {group["name"] for group in rule_groups}:
        yield f"the PrometheusRule has the groups {names}"


def version_faults():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    if {chart["version"], chart["appVersion"]} != {workspace}:
        yield f"Chart.yaml is of {chart['version']} and {chart['appVersion']}, and the programs of {workspace}"


def refusal_faults(values, needle, **more):
    code, _, said = template(values, **more)
    if code == 0:
        yield "it was rendered"
    elif needle not in said:
        yield f"the error does not say {needle!r}: {said}"


def lint_faults():
    code, said, errors = helm("lint", "--strict", str(CHART), "--values", str(EXAMPLE / "values.yaml"), "--namespace", NAMESPACE)
    if code:
        yield said + errors


def blindness_faults(objects):
    """What must be found is found: a check that sees nothing would be green for ever."""

    def broken(change):
        other = copy.deepcopy(objects)
        change(other)
        return other

    def misspell_durability(other):
        synchronous = other.of("Cluster")[0]["spec"]["postgresql"]["synchronous"]
        synchronous["dataDurabilty"] = synchronous.pop("dataDurability")

    def misplace_strategy(other):
        spec = other.of("Cluster")[0]["spec"]
        spec["postgresql"]["primaryUpdateStrategy"] = spec["primaryUpdateStrategy"]

    def unknown_kind(other):
        other.of("HorizontalPodAutoscaler")[0]["kind"] = "HorizontalPodAutoscalr"

    def unknown_field(other):
        other.of("Deployment")[0]["spec"]["template"]["spec"]["terminationGracePeriod"] = 3

    def unknown_interval(other):
        other.of("ServiceMonitor")[0]["spec"]["endpoints"][0]["intervall"] = "1s"

    for name, change, look in [
        ("a misspelled field of a Cluster", misspell_durability, schemas.typed_faults),
        ("a misplaced field of a Cluster", misplace_strategy, schemas.typed_faults),
        ("an unknown kind", unknown_kind, schemas.faults),
        ("an unknown field", unknown_field, schemas.faults),
        ("an unknown field of a ServiceMonitor", unknown_interval, schemas.monitoring_faults),
    ]:
        if not list(look(broken(change))):
            yield f"{name} was not found"


def check_variant(name, values):
    code, text, errors = template(values)
    check(f"{name}: it is rendered", [errors] if code else [])
    if code:
        return
    objects = Objects(text)
    # It belongs to somebody else's folder of secrets and processes, and nothing of it stays.
    with tempfile.TemporaryDirectory(prefix="picopay-chart-") as work:
        folder = pathlib.Path(work)
        made = programs.make_secrets(folder, objects)
        secrets = {**made, **programs.operators_secrets(objects, made)}
        check(f"{name}: Kubernetes {', '.join(schemas.VERSIONS)} takes every object", schemas.faults(objects))
        check(f"{name}: CloudNativePG's objects come back from their types", schemas.typed_faults(objects))
        if objects.of("ServiceMonitor"):
            check(f"{name}: so do those of Prometheus' operator", schemas.monitoring_faults(objects))
        check(f"{name}: ports agree", pods.port_faults(objects))
        check(f"{name}: selectors match", pods.selector_faults(objects))
        check(f"{name}: names in cluster.toml lead somewhere", pods.name_faults(objects))
        check(f"{name}: nobody is killed while ending", pods.time_faults(objects))
        check(f"{name}: every secret key is made", pods.secret_faults(objects, made))
        check(f"{name}: an upgrade waits for nothing of its own", pods.hook_faults(objects))
        check(f"{name}: no pod may do more than it needs", pods.security_faults(objects))
        if objects.of("NetworkPolicy"):
            # Nobody is in the namespace `shops` here but its client.
            clients = ["client"] if values.get("gateway.allowedFrom") else None
            is_monitored = bool(objects.of("ServiceMonitor"))
            check(f"{name}: only the arrows of the design are allowed", network.faults(objects, is_monitored, clients))
        check(f"{name}: picopay config check", programs.config_faults(objects, folder / "checked", secrets))
        check(f"{name}: the programs start and answer", programs.running_faults(objects, folder, secrets))


def main():
    if sys.argv[1:] == ["--write"]:
        write()
    elif sys.argv[1:]:
        sys.exit(__doc__)
    check("helm lint --strict", lint_faults())
    check("the example is what the chart renders", example_faults())
    check("the rules are those of deploy/observability" if RULES_SOURCE.is_dir() else "the rules are the chart's own", rules_faults())
    check("the chart's version is the programs'", version_faults())
    for name, (values, needle) in REFUSED.items():
        check(f"refused: {name}", refusal_faults(values, needle))
    too_long = "picopay-of-the-whole-company"
    check("refused: a release whose names are too long", refusal_faults({"shards": [{"name": "s" * 30}]}, "is longer than 45 letters", release=too_long))
    full = Objects(template(VARIANTS["2 shards, TLS, monitoring"])[1])
    check("what must be found is found", blindness_faults(full))
    check("the jobs' commands are picopay's", programs.option_faults(full))
    for name, values in VARIANTS.items():
        check_variant(name, values)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
