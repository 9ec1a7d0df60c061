#!/bin/sh
# Reads each dashboard with Grafana's own types, which a Python package has, and says what Grafana would not know. Needs
# Python 3, and installs the package into a folder of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${CARGO_TARGET_DIR:-$here/../../target}/observability
if [ ! -x "$work/venv/bin/python" ] || ! "$work/venv/bin/python" -c 'import grafana_foundation_sdk' 2> /dev/null; then
    mkdir -p "$work"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet 'grafana-foundation-sdk==1769699998!10.1.0'
fi
exec "$work/venv/bin/python" "$here/check-dashboards.py" "$here"/grafana/dashboards/*.json
