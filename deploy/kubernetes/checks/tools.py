"""The programs that the checks run, and where things are."""

import json
import os
import pathlib
import subprocess

import yaml

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
CHART = HERE / "picopay"
EXAMPLE = HERE / "example"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
HELM = TARGET / "kubernetes/bin/helm"
KUBECTL = TARGET / "kubernetes/bin/kubectl"
TYPED = TARGET / "kubernetes/typed/debug/picopay-typed-objects"
# Built as tests have them: `cargo build --workspace --bins`.
PROGRAMS = TARGET / "debug"

RELEASE = "picopay"
NAMESPACE = "picopay"


def run(*arguments, **more):
    """What a program said: its exit code, and both outputs together."""
    done = subprocess.run([str(one) for one in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    return done.returncode, done.stdout


def helm(*arguments, **more):
    """Its exit code, what it printed and its errors."""
    # No settings and no plugins of whoever runs this.
    home = TARGET / "kubernetes/helm"
    places = {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    done = subprocess.run([str(HELM), *arguments], capture_output=True, text=True, env={**os.environ, **places}, **more)
    return done.returncode, done.stdout, done.stderr


def template(values, *more, release=RELEASE):
    """What `helm template` says of the example's values with `values` over them: dotted keys, and None takes one away."""
    merged = yaml.safe_load((EXAMPLE / "values.yaml").read_text())
    for key, value in values.items():
        *path, last = key.split(".")
        place = merged
        for step in path:
            place = place.setdefault(step, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    arguments = ("template", release, str(CHART), "--namespace", NAMESPACE, "--values", "-", *more)
    return helm(*arguments, input=json.dumps(merged))
