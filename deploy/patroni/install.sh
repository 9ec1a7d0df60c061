#!/bin/sh
# Installs what a shard under Patroni needs on this machine and `make setup` does not bring: Patroni, etcd, and the etcd
# library that Patroni imports. Debian and Ubuntu only, as root or by sudo. Says nothing and changes nothing when all is
# there. It leaves no service running: the drill starts its own, on ports of its own.
set -eu

packages='patroni etcd-server python3-etcd'

say() { printf 'patroni: %s\n' "$*" >&2; }

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

if ! command -v apt-get > /dev/null 2>&1; then
    say "this needs a Debian or Ubuntu system; elsewhere install Patroni 3 and etcd 3.4 or newer, and run the drill itself"
    exit 1
fi

missing=''
for package in $packages; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
}

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

say "installing what is missing:$missing"
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
# shellcheck disable=SC2086
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing > /dev/null

# They are not started now; with systemd they would be at the next boot.
if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet patroni etcd || true
fi
