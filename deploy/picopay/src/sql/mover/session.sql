-- A commit here waits for the standby like any charge's. A lock that is not to be had soon is tried again: who waits for the
-- fence keeps every later batch waiting too. A mover that was killed in the middle of a long statement is noticed, and its
-- locks go.
SET synchronous_commit = on;
SET lock_timeout = '250ms';
SET client_connection_check_interval = '500ms';
SET jit = off;
CREATE TEMP TABLE moved_users (slot smallint, user_id bigint, tag integer, created_at timestamptz) ON COMMIT DELETE ROWS
