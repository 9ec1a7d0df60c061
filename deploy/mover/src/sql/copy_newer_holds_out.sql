-- The open ones, and those that ended since: see `digest_rest.sql`. Neither half reads the others.
COPY (
    SELECT slot, user_id, id, currency, amount, captured, state, expires_at, ended_by FROM holds
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[]) AND state = 'open'
    UNION ALL
    SELECT h.slot, h.user_id, h.id, h.currency, h.amount, h.captured, h.state, h.expires_at, h.ended_by
    FROM transactions t
    JOIN holds h ON h.slot = t.slot AND h.user_id = t.user_id AND h.id = t.hold_id AND h.ended_by = t.id
    WHERE t.slot = ANY (current_setting('picopay.slots')::smallint[])
      AND t.id >= current_setting('picopay.bound')::uuid AND t.id < '80000000-0000-0000-0000-000000000000'
      AND t.hold_id IS NOT NULL
) TO STDOUT (FORMAT binary)
