COPY moved_users (slot, user_id, tag, created_at) FROM STDIN (FORMAT binary)
