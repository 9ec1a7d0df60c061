-- The name of a log file begins with its timeline in eight hexadecimal digits. The control file would show the timeline
-- of the last checkpoint only, which after a promotion is still the old one.
SELECT ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer
