# What the scripts share that install Debian's packages; they say who they are and read it:
# `who=setup; . deploy/packages.sh`. As root or by sudo. No service runs afterwards that did not before.

has() { command -v "$1" > /dev/null 2>&1; }
say() { printf '%s: %s\n' "$who" "$*" >&2; }

may_install() { has apt-get && { [ "$(id -u)" -eq 0 ] || has sudo; }; }

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

# install_packages NAME...: what is missing, and nothing that is only recommended.
install_packages() {
    say "installing what is missing: $*"
    renew_lists || return 1
    keep_services_down
    trap let_services_up EXIT
    installed=0
    apt install --yes --no-install-recommends "$@" > /dev/null || installed=1
    let_services_up
    trap - EXIT
    return "$installed"
}

# Services are not started now; with systemd they would be at the next boot.
keep_from_boot() { [ ! -d /run/systemd/system ] || as_root systemctl disable --quiet "$@" || true; }

# It waits ten minutes for whoever else installs something.
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }

# Once. For whoever else reads the lists apt-get does not wait, so this does: two minutes.
renew_lists() {
    [ -z "${lists_are_new:-}" ] || return 0
    tries=24
    until said=$(apt update 2>&1); do
        tries=$((tries - 1))
        case $said in */lists/lock*) [ "$tries" -gt 0 ] && sleep 5 && continue ;; esac
        printf '%s\n' "$said" >&2
        return 1
    done
    lists_are_new=yes
}

policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/picopay-setup.conf
made_policy=''

# Debian asks this program before it starts a service, and PostgreSQL's packages look here before they make a server.
keep_services_down() {
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
        as_root chmod 755 "$policy"
        made_policy=yes
    fi
    as_root mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" > /dev/null
}

let_services_up() {
    [ -z "$made_policy" ] || as_root rm -f "$policy"
    made_policy=''
    as_root rm -f "$no_cluster"
}
