-- Whether what this database acknowledges is on two machines, and since when an operator lets it go on without. Who is not
-- a member of pg_read_all_stats (pg_monitor is) sees that there are standbys and not what they do.
SELECT (SELECT to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM degradation),
       current_setting('synchronous_standby_names') <> '',
       (SELECT CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE')
                    THEN count(*) FILTER (WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))
                    ELSE count(*)
               END > 0
        FROM pg_stat_replication),
       (SELECT cluster_id FROM shard_identity),
       (SELECT shard_name FROM shard_identity)
