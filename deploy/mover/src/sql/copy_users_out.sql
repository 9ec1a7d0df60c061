COPY (
    SELECT slot, user_id, tag, created_at FROM users
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
) TO STDOUT (FORMAT binary)
