#!/bin/sh
# Starts one of the two PostgreSQL servers of a shard: `picopay-postgres NAME PEER primary|standby`.
# The last word counts only for a server without data. One that begins as the primary is made empty; one that begins as a
# standby is copied from its peer, again and again until that succeeds: so is a standby that lost its volume.
set -eu

name=$1 peer=$2 begins=$3
home=/var/lib/postgresql
data=$home/data
new=$home/new
secrets=/run/picopay

# How it calls its peer, as the role that may copy it. With PICOPAY_TLS, of deploy/compose/compose.tls.yaml, all is over TLS.
kind='' caller="host=$peer user=replicator passfile=$secrets/replicator.pgpass"
if [ -n "${PICOPAY_TLS:-}" ]; then
    kind=.tls certs=$secrets/certs
    caller="$caller sslmode=verify-full sslrootcert=$certs/ca.pem channel_binding=require"
    caller="$caller sslcert=$certs/replicator.pem sslkey=$certs/replicator.key"
fi

say() { printf '%s: %s\n' "$name" "$*" >&2; }

configure() {
    umask 077
    {
        cat /etc/picopay/postgresql.conf
        if [ -n "$kind" ]; then cat /etc/picopay/postgresql.tls.conf; fi
        printf "\ncluster_name = '%s'\nsynchronous_commit = on\n" "$name"
        # A standby names its peer too: it may be promoted.
        printf "synchronous_standby_names = 'FIRST 1 (\"%s\")'\n" "$peer"
        printf "primary_conninfo = '%s application_name=%s'\n" "$caller" "$name"
    } > "$1/postgresql.conf"
    cp "/etc/picopay/pg_hba$kind.conf" "$1/pg_hba.conf"
}

# An empty server beside a peer with data would be a shard that forgot everything: its money is on the peer. When that has
# become the primary, this one is its standby; before, somebody has to decide that.
begin_as_primary() {
    if ! pg_isready --quiet --host="$peer" --timeout=2; then
        make_primary
        return
    fi
    waits=$(psql --no-psqlrc --tuples-only --no-align --dbname="$caller replication=true" \
        --command='SHOW in_hot_standby') || waits=unknown
    if [ "$waits" = off ]; then
        copy_primary
    else
        say "there is no data here, and $peer has some. deploy/compose/README.md says what to do: a primary lost its volume"
        exit 1
    fi
}

make_primary() {
    say 'making an empty server'
    initdb --pgdata="$new" --username=postgres --pwfile="$secrets/superuser" --auth-local=peer --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C --no-instructions > /dev/null
    # Nobody can connect to it yet, and no commit waits for a standby.
    errors=$(/etc/picopay/roles.sh all | postgres --single -D "$new" postgres 2>&1 > /dev/null | grep -E 'ERROR|FATAL' || true)
    if [ -n "$errors" ]; then
        say "the roles could not be made: $errors"
        exit 1
    fi
    configure "$new"
}

copy_primary() {
    say "waiting for $peer, to copy it"
    until pg_isready --quiet --host="$peer" --timeout=2; do sleep 0.5; done
    say "copying $peer"
    until pg_basebackup --pgdata="$new" --dbname="$caller" --no-password --checkpoint=fast --wal-method=stream; do
        rm -rf "$new"
        sleep 1
    done
    touch "$new/standby.signal"
    configure "$new"
}

if [ ! -d "$data" ]; then
    # What an interrupted start left half done.
    rm -rf "$new"
    case $begins in
        primary) begin_as_primary ;;
        standby) copy_primary ;;
        *) say "begins as primary or standby, not as $begins"; exit 2 ;;
    esac
    sync
    mv "$new" "$data"
fi

configure "$data"
# After SIGKILL the lock file names a process that is gone, whose number may be another's by now. The volume is this
# container's alone.
rm -f "$data/postmaster.pid"
exec postgres -D "$data"
