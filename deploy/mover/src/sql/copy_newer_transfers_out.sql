-- Those that ended since, and the unfinished ones. Each half reads a range of the index by the end, and none of the others.
COPY (
    SELECT slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, next_try_at, tries, last_error
    FROM transfers
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
      AND ended_at >= current_setting('picopay.bound_time')::timestamptz
    UNION ALL
    SELECT slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, next_try_at, tries, last_error
    FROM transfers
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[]) AND ended_at IS NULL
) TO STDOUT (FORMAT binary)
