"""Reads each dashboard with Grafana's own types and writes it again: what Grafana does not know would be lost.

Usage: check-dashboards.py FILE…, where the PyPI package grafana-foundation-sdk is installed.
"""

import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(before, after, path):
    """The paths of what `before` says and `after` does not."""
    if isinstance(before, dict):
        if not isinstance(after, dict):
            return [path]
        missing = [f"{path}.{name}" for name, value in before.items() if name not in after and value not in (None, [], {})]
        both = [name for name in before if name in after]
        return missing + [one for name in both for one in lost(before[name], after[name], f"{path}.{name}")]
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return [path]
        return [one for number, pair in enumerate(zip(before, after)) for one in lost(*pair, f"{path}[{number}]")]
    return [] if before == after else [f"{path}: {before!r} became {after!r}"]


def main(files):
    register_default_plugins()
    found = 0
    for file in files:
        with open(file, encoding="utf-8") as opened:
            before = json.load(opened)
        after = json.loads(JSONEncoder().encode(Dashboard.from_json(before)))
        for one in lost(before, after, file):
            found += 1
            print(f"Grafana does not know {one}")
    print(f"{len(files)} dashboards, {found} faults")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
