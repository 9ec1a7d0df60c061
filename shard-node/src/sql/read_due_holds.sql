-- After the balances, and only for users of whom a hold may have run out. $3: the time that was read after the locks.
SELECT h.user_id, h.id, h.state, h.amount, h.captured, h.currency, h.expires_at, t.idempotency_key, t.reference, t.metadata::text
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
CROSS JOIN LATERAL (
    SELECT * FROM holds
    WHERE slot = w.slot AND user_id = w.user_id AND state = 'open' AND expires_at <= $3
    ORDER BY expires_at, id
    OFFSET 0
) h
CROSS JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = h.slot AND user_id = h.user_id AND id = h.id
    OFFSET 0
) t
