-- Those who can have been made since the others were copied. If that misses one, the two sides differ.
COPY (
    SELECT slot, user_id, tag, created_at FROM users
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
      AND created_at >= current_setting('picopay.since')::timestamptz
) TO STDOUT (FORMAT binary)
