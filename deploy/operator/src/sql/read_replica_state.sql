SELECT current_setting('server_version'),
       pg_is_in_recovery(),
       pg_last_wal_replay_lsn()
