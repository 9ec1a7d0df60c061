-- Each standby in words, and whether commits can wait for it. Who is not a member of pg_read_all_stats sees names only.
SELECT concat_ws(', ', application_name, state, sync_state),
       coalesce(state = 'streaming' AND sync_state IN ('sync', 'quorum'), false),
       sync_state IS NULL
FROM pg_stat_replication
ORDER BY application_name
