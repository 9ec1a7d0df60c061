#!/bin/sh
# Installs what the console's test in a real browser needs and this machine lacks: Chromium of the system, and Playwright from
# the Python registry, into a folder below target/. Says nothing and changes nothing when all is there.
# PICOPAY_CHROMIUM names another browser of that family.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${CARGO_TARGET_DIR:-$here/../../../target}/console-test
who=console-test
. "$here/../../packages.sh"

if [ ! -x "${PICOPAY_CHROMIUM:-/usr/bin/chromium}" ]; then
    may_install || {
        say 'there is no /usr/bin/chromium: install one, and name it in PICOPAY_CHROMIUM'
        exit 1
    }
    install_packages chromium python3-venv
fi
if ! "$work/venv/bin/python" -c 'import playwright' 2> /dev/null; then
    say 'installing playwright'
    mkdir -p "$work"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet 'playwright==1.65.2'
fi
