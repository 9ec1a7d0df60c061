-- A transfer that has ended never changes again.
COPY (
    SELECT slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, next_try_at, tries, last_error
    FROM transfers
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
      AND ended_at < current_setting('picopay.bound_time')::timestamptz
    ORDER BY slot, ended_at
) TO STDOUT (FORMAT binary)
