#!/bin/sh
# Prints the SQL that makes the roles of a new server, one statement a line. `roles.sh all`: replicator too, which Patroni
# makes by itself. Passwords are hexadecimal digits, so they need no quoting.
set -eu
secrets=/run/picopay
echo 'SET synchronous_commit = local;'
echo "CREATE ROLE picopay LOGIN PASSWORD '$(cat $secrets/picopay)' IN ROLE pg_monitor;"
echo 'GRANT SET ON PARAMETER session_replication_role TO picopay;'
if [ "${1:-}" = all ]; then
    echo "CREATE ROLE replicator LOGIN REPLICATION PASSWORD '$(cat $secrets/replicator)';"
fi
echo 'CREATE DATABASE picopay OWNER picopay;'
