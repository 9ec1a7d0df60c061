#!/bin/sh
# Code 0 if the server does its part: a primary takes writes, a standby receives what its primary writes.
set -eu
part=$(psql --no-psqlrc --tuples-only --no-align --username=postgres --dbname=postgres --command="
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'primary'
                WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN 'standby'
                ELSE 'a standby that receives nothing' END")
echo "$part"
[ "$part" = primary ] || [ "$part" = standby ]
