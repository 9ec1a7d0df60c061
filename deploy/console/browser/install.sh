#!/bin/sh
# Installs what the console's test in a real browser needs and this machine lacks: Chromium of the system, and Playwright from
# the Python registry, into a folder below target/. Says nothing and changes nothing when all is there.
# PICOPAY_CHROMIUM names another browser of that family.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${CARGO_TARGET_DIR:-$here/../../../target}/console-test
say() { printf 'console-test: %s\n' "$*" >&2; }

if [ ! -x "${PICOPAY_CHROMIUM:-/usr/bin/chromium}" ]; then
    command -v apt-get > /dev/null 2>&1 || {
        say 'there is no /usr/bin/chromium: install one, and name it in PICOPAY_CHROMIUM'
        exit 1
    }
    root=$([ "$(id -u)" = 0 ] || echo sudo)
    say 'installing chromium'
    $root apt-get -o DPkg::Lock::Timeout=600 update -qq
    DEBIAN_FRONTEND=noninteractive $root apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends \
        chromium python3-venv > /dev/null
fi
if ! "$work/venv/bin/python" -c 'import playwright' 2> /dev/null; then
    say 'installing playwright'
    mkdir -p "$work"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet 'playwright==1.65.2'
fi
