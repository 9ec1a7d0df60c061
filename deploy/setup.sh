#!/bin/sh
# Installs what a local PicoPay cluster needs and this machine lacks: PostgreSQL 15 or newer, Redis, a C compiler
# and make. Says nothing and changes nothing when all is there. `picopay doctor` tells more.
# `deploy/setup.sh valgrind`: that too, for whoever counts instructions. `python` and `openssl`: for whoever checks the chart.
#
# Debian and Ubuntu: apt-get, as root or by sudo. macOS: Homebrew. Elsewhere it says what to install.
# It leaves no service running: PicoPay starts its own servers, on ports of its own.
set -eu

who=setup
. "$(dirname "$0")/packages.sh"
postgres_min=15

# The same places in which picopay itself looks (deploy/local/src/programs.rs).
has_postgres() {
    for folder in "${PICOPAY_PG_BIN:-}" "$(pg_config --bindir 2> /dev/null || true)" \
        /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /usr/pgsql-*/bin \
        "$(dirname "$(command -v initdb 2> /dev/null || echo /nowhere/initdb)")"; do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/pg_basebackup" ] || continue
        major=$("$folder/postgres" --version | sed 's/.*(PostgreSQL) //; s/[^0-9].*//')
        [ "${major:-0}" -ge "$postgres_min" ] && return 0
    done
    return 1
}

has_redis() {
    has redis-server || has valkey-server || [ -x /usr/bin/redis-server ] || [ -x /opt/homebrew/bin/redis-server ]
}

# With what makes a place for packages, which Debian has apart.
has_python() { python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

missing=''
has_postgres || missing="$missing postgres"
has_redis || missing="$missing redis"
has cc || missing="$missing cc"
has make || missing="$missing make"
for more in "$@"; do
    case $more in
        valgrind) has valgrind || missing="$missing valgrind" ;;
        openssl) has openssl || missing="$missing openssl" ;;
        python) has_python || missing="$missing python" ;;
        *) say "nothing is known about $more"; exit 2 ;;
    esac
done

if ! has cargo && [ ! -x "${HOME:-/root}/.cargo/bin/cargo" ]; then
    say 'there is no Rust toolchain. https://rustup.rs tells how to install one; then run this again.'
    exit 1
fi
[ -n "$missing" ] || exit 0

is_missing() { case " $missing " in *" $1 "*) true ;; *) false ;; esac; }

install_with_apt() {
    if ! may_install; then
        say "missing:$missing. Run as root: apt-get install postgresql redis-server build-essential"
        exit 1
    fi
    is_missing postgres && offer_new_postgres
    packages=''
    is_missing postgres && packages="$packages postgresql"
    is_missing redis && packages="$packages redis-server"
    is_missing cc && packages="$packages gcc libc6-dev"
    is_missing make && packages="$packages make"
    is_missing valgrind && packages="$packages valgrind"
    is_missing openssl && packages="$packages openssl"
    is_missing python && packages="$packages python3 python3-venv"
    # shellcheck disable=SC2086
    install_packages $packages
    is_missing postgres && keep_from_boot postgresql
    is_missing redis && keep_from_boot redis-server
    return 0
}

# Ubuntu 22.04 and Debian 11 bring an older PostgreSQL. PostgreSQL's own package archive, which the packages of the
# distribution know how to add, has a newer one.
offer_new_postgres() {
    renew_lists
    candidate=$(apt-cache policy postgresql | sed -n 's/^ *Candidate: *\([0-9]*\).*/\1/p')
    [ "${candidate:-0}" -lt "$postgres_min" ] || return 0
    say "this system brings PostgreSQL ${candidate:-?}: adding PostgreSQL's own archive, apt.postgresql.org"
    install_packages postgresql-common ca-certificates
    as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y > /dev/null
}

install_with_homebrew() {
    say "installing what is missing:$missing"
    is_missing postgres && brew install --quiet postgresql@17
    is_missing redis && brew install --quiet redis
    if is_missing cc || is_missing make; then
        say 'the compiler and make come with: xcode-select --install'
        exit 1
    fi
    if is_missing valgrind; then
        say 'valgrind is not to be had here: count the instructions on Linux'
        exit 1
    fi
}

if has apt-get; then
    install_with_apt
elif has brew; then
    install_with_homebrew
else
    say "missing:$missing. Install PostgreSQL $postgres_min or newer (the server), redis-server, a C compiler and make:"
    if has dnf; then
        say '  dnf install postgresql-server redis gcc make'
    elif has pacman; then
        say '  pacman -S postgresql redis gcc make'
    elif has apk; then
        say '  apk add postgresql17 redis build-base'
    elif has zypper; then
        say '  zypper install postgresql-server redis gcc make'
    fi
    is_missing valgrind && say '  and valgrind'
    is_missing python && say '  and Python 3.11 or newer, with its module venv'
    is_missing openssl && say '  and openssl'
    say 'and if they are in a place of their own, name it: PICOPAY_PG_BIN=/path/to/postgresql/bin'
    exit 1
fi

has_postgres || { say "PostgreSQL $postgres_min or newer is still missing"; exit 1; }
has_redis || { say 'redis-server is still missing'; exit 1; }
