COPY transfers (
    slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, next_try_at, tries, last_error
) FROM STDIN (FORMAT binary)
