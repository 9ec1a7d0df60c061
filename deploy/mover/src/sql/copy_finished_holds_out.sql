-- A hold that has ended never changes again. Those that an older transaction ended are copied with it.
COPY (
    SELECT slot, user_id, id, currency, amount, captured, state, expires_at, ended_by FROM holds
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[]) AND ended_by < current_setting('picopay.bound')::uuid
    ORDER BY slot, user_id, id
) TO STDOUT (FORMAT binary)
