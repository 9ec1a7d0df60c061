#!/bin/sh
# Installs what a shard under Patroni needs on this machine and `make setup` does not bring: Patroni, etcd, and the etcd
# library that Patroni imports. Debian and Ubuntu only, as root or by sudo. Says nothing and changes nothing when all is
# there. It leaves no service running: the drill starts its own, on ports of its own.
set -eu

who=patroni
. "$(dirname "$0")/../packages.sh"

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

if ! has apt-get; then
    say "this needs a Debian or Ubuntu system; elsewhere install Patroni 3 and etcd 3.4 or newer, and run the drill itself"
    exit 1
fi

missing=''
for package in patroni etcd-server python3-etcd; do
    is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

# shellcheck disable=SC2086
install_packages $missing
keep_from_boot patroni etcd
