-- Gone with this database transaction, however it ends. A connection that still had the table when it goes would delete it in
-- a commit of its own: without a standby that waits, nobody can cancel it, and the mover's lock waits with it.
CREATE TEMP TABLE moved_users (slot smallint, user_id bigint, tag integer, created_at timestamptz) ON COMMIT DROP
