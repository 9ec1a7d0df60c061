-- Users that were made since the others were copied.
INSERT INTO users (slot, user_id, tag, created_at)
SELECT slot, user_id, tag, created_at FROM moved_users
ON CONFLICT DO NOTHING
