#!/bin/sh
# Patroni runs it once, with a connection string of the new primary.
set -eu
/etc/picopay/roles.sh | psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$1"
