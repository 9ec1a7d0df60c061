-- The name of a log file begins with its timeline in eight hexadecimal digits. The control file would show the timeline
-- of the last checkpoint only, which after a promotion is still the old one. A server in recovery writes no log.
-- The start of the server tells two names of one server from two servers.
SELECT CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer
       END AS timeline,
       current_setting('transaction_read_only') = 'on' AS is_read_only,
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_us
