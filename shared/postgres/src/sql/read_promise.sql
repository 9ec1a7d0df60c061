-- Behind a COMMIT, as a message of its own: a session takes up a changed configuration only between two messages. All
-- sessions are signalled before the checkpointer, which lets waiting commits go, so this one sees the change that let it go.
-- The end of the flushed log and not of the inserted one: what other sessions have inserted reaches no replica before
-- somebody flushes it.
SELECT pg_current_wal_flush_lsn(), current_setting('synchronous_standby_names'), pg_conf_load_time()
