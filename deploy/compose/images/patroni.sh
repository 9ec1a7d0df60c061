#!/bin/sh
# Starts a member of a shard under Patroni: `picopay-patroni SHARD NAME`. Its PostgreSQL is Patroni's own business.
# docs/operating.md says why the settings are what they are.
set -eu

shard=$1 name=$2
secrets=/run/picopay
file=/tmp/patroni.yml

# postgresql.conf without what Patroni decides by itself, as YAML.
parameters() {
    sed -n "s/^\([a-z_]*\) = '\{0,1\}\([^']*\)'\{0,1\}\$/        \1: '\2'/p" /etc/picopay/postgresql.conf \
        | grep -vE '^ *(listen_addresses|hot_standby|unix_socket_directories):'
}

umask 077
cat > "$file" << END
scope: $shard
name: $name
restapi: {listen: '0.0.0.0:8008', connect_address: '$name:8008'}
etcd3: {host: 'etcd:2379'}
bootstrap:
  dcs:
    ttl: 10
    loop_wait: 2
    retry_timeout: 3
    # What durability = "replicated" promises.
    synchronous_mode: true
    synchronous_mode_strict: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
$(parameters)
  initdb: [{encoding: UTF8}, {locale: C}]
  post_bootstrap: /usr/local/bin/picopay-patroni-roles
postgresql:
  listen: '0.0.0.0:5432'
  connect_address: '$name:5432'
  data_dir: /var/lib/postgresql/data
  bin_dir: /usr/lib/postgresql/15/bin
  pgpass: /tmp/patroni.pgpass
  use_unix_socket: true
  parameters: {unix_socket_directories: /run/postgresql}
  authentication:
    superuser: {username: postgres, password: '$(cat $secrets/superuser)'}
    replication: {username: replicator, password: '$(cat $secrets/replicator)'}
  pg_hba:
    - local all         postgres       peer
    - host  all         postgres   all scram-sha-256
    - host  all         picopay    all scram-sha-256
    - host  replication replicator all scram-sha-256
  # Without it a copy waits for the next checkpoint, minutes away.
  basebackup: {checkpoint: fast}
  # An old primary whose log cannot be rewound is copied anew.
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
watchdog: {mode: 'off'}
END
# See postgres.sh.
rm -f /var/lib/postgresql/data/postmaster.pid
exec patroni "$file"
