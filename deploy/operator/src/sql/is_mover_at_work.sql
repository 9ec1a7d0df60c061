-- Whether a session holds the advisory lock $1 in this database, which Postgres shows in two halves.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND objsubid = 1
      AND (classid::bigint << 32) | objid::bigint = $1
)
