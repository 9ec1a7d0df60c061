-- Ends the waits of the role's own commits for a standby. They are in the log already and become visible, with a warning
-- that nobody hears: whoever waited for them was told long ago that the outcome is unknown.
SELECT count(pg_cancel_backend(pid))
FROM pg_stat_activity
WHERE wait_event = 'SyncRep' AND datname = current_database() AND usename = current_user
