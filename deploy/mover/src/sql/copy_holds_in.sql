COPY holds (slot, user_id, id, currency, amount, captured, state, expires_at, ended_by) FROM STDIN (FORMAT binary)
