#!/bin/sh
# Installs what the tests of alerts and dashboards need: Prometheus with promtool, Alertmanager with amtool. Debian and
# Ubuntu, as root or by sudo; macOS by Homebrew. Says nothing and changes nothing when all is there. Where they cannot be
# had it says "skipped" and why, and is content: those tests are skipped then. It leaves no service running.
set -eu

who=observability
. "$(dirname "$0")/../packages.sh"

skip() {
    say "skipped, alerts and dashboards are not tested: $*"
    exit 0
}

is_there() { has prometheus && has promtool && has amtool && { has prometheus-alertmanager || has alertmanager; }; }

is_there && exit 0

if has brew && ! has apt-get; then
    say 'installing what is missing: prometheus, alertmanager'
    brew install --quiet prometheus alertmanager || skip 'Homebrew cannot install them'
    exit 0
fi
has apt-get || skip 'there is no apt-get here; install Prometheus 2.42 and Alertmanager 0.25, or newer, yourself'
may_install || skip 'to install them needs root or sudo'
install_packages prometheus prometheus-alertmanager || skip 'the packages cannot be installed'
keep_from_boot prometheus prometheus-alertmanager
is_there || skip 'the packages do not bring all of the programs'
