#!/bin/sh
# Tries the OpenAPI document on a gateway that runs: two generators make clients of it, which charge, replay, hold, transfer, send a batch and read;
# then schemathesis sends 2,000 requests and more, with all its checks. Needs Python 3 and Java, and installs what else it needs.
#
#   gateway/tests/openapi/check.sh [gateway [key]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${CARGO_TARGET_DIR:-$here/../../../target}/openapi
url=${1:-http://127.0.0.1:8080}
key=${2:-dev-key}
mkdir -p "$work"
cd "$work"
if [ ! -x venv/bin/st ]; then
    python3 -m venv venv
    venv/bin/pip install --quiet 'schemathesis>=4.32,<5' 'openapi-python-client==0.29.1' 'openapi-generator-cli==7.26.0' \
        pydantic python-dateutil urllib3
fi
python=venv/bin/python
"$python" -c 'import sys, urllib.request; open("openapi.json", "wb").write(urllib.request.urlopen(sys.argv[1]).read())' "$url/v1/openapi.json"

rm -rf first second
mkdir first
venv/bin/openapi-python-client generate --path openapi.json --output-path first/picopay_client --meta none > first.log 2>&1
if grep -q 'will not be generated' first.log; then
    cat first.log
    exit 1
fi
"$python" "$here/openapi_python_client.py" "$url" "$key" first

jar=$("$python" -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("openapi_generator_cli").origin).parent / "openapi-generator.jar")')
java -jar "$jar" generate -i openapi.json -g python -o second > second.log 2>&1 || { cat second.log; exit 1; }
"$python" "$here/openapi_generator.py" "$url/v1" "$key" second

cp "$here/hooks.py" "$here/schemathesis.toml" .
# For a busy machine: one request that waits for a processor is no finding.
SCHEMATHESIS_HOOKS=hooks exec venv/bin/st run openapi.json --url "$url/v1" --header "X-API-Key: $key" --checks all \
    --max-examples "${EXAMPLES:-250}" --continue-on-failure --request-timeout 20 --no-color
