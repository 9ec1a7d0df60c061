-- Whether a synchronous standby has this position on its disk. A session that asked to wait for nobody needs none. Who is
-- not a member of pg_read_all_stats (pg_monitor is) sees nothing here, and the answer is no.
SELECT current_setting('synchronous_commit') IN ('local', 'off')
    OR EXISTS (
        SELECT FROM pg_stat_replication
        WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum') AND flush_lsn >= $1
    )
