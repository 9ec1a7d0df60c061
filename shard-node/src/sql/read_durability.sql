-- What a commit of this session waits for. A role outside pg_read_all_stats (pg_monitor is in it) sees that there are
-- standbys, but not what they do.
SELECT current_setting('synchronous_standby_names') <> '',
       current_setting('synchronous_commit') IN ('on', 'remote_apply'),
       current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
       CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE')
            THEN count(*) FILTER (WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))
            ELSE count(*)
       END > 0
FROM pg_stat_replication
