-- What a primary says of itself and of its standbys. All but the name of a standby is NULL for a user who is
-- not a member of pg_monitor.
SELECT current_setting('server_version'),
       pg_current_wal_flush_lsn(),
       coalesce((
           SELECT json_agg(json_build_object(
                      'name', application_name,
                      'state', state,
                      'sync_state', sync_state,
                      'lag_bytes', greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::bigint
                  ) ORDER BY application_name)
           FROM pg_stat_replication
       ), '[]')
