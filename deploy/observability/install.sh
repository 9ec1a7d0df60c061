#!/bin/sh
# Installs what the tests of alerts and dashboards need: Prometheus with promtool, Alertmanager with amtool. Debian and
# Ubuntu, as root or by sudo; macOS by Homebrew. Says nothing and changes nothing when all is there. Where they cannot be
# had it says "skipped" and why, and is content: those tests are skipped then. It leaves no service running.
set -eu

has() { command -v "$1" > /dev/null 2>&1; }
say() { printf 'observability: %s\n' "$*" >&2; }
skip() {
    say "skipped, alerts and dashboards are not tested: $*"
    exit 0
}

is_there() { has prometheus && has promtool && has amtool && { has prometheus-alertmanager || has alertmanager; }; }

is_there && exit 0

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        # Nobody is there to type a password.
        sudo -n "$@"
    fi
}

if has brew && ! has apt-get; then
    say 'installing what is missing: prometheus, alertmanager'
    brew install --quiet prometheus alertmanager || skip 'Homebrew cannot install them'
    exit 0
fi
has apt-get || skip 'there is no apt-get here; install Prometheus 2.42 and Alertmanager 0.25, or newer, yourself'
[ "$(id -u)" -eq 0 ] || has sudo || skip 'to install them needs root or sudo'

# Debian asks this program before it starts a service.
policy=/usr/sbin/policy-rc.d
made_policy=''
let_services_up() { [ -z "$made_policy" ] || as_root rm -f "$policy"; }
trap let_services_up EXIT
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    as_root chmod 755 "$policy"
    made_policy=yes
fi

say 'installing what is missing: prometheus, prometheus-alertmanager'
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
    prometheus prometheus-alertmanager > /dev/null || skip 'the packages cannot be installed'

# They are not started now; with systemd they would be at the next boot.
if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet prometheus prometheus-alertmanager || true
fi
is_there || skip 'the packages do not bring all of the programs'
