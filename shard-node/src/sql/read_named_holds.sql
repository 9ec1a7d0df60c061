-- After the users are locked, as a statement of its own, like the balances. What never changes of a hold is in its transaction.
SELECT h.user_id, h.id, h.state, h.amount, h.captured, h.currency, h.expires_at, t.idempotency_key, t.reference, t.metadata::text
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, id)
CROSS JOIN LATERAL (
    SELECT * FROM holds
    WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
    OFFSET 0
) h
CROSS JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
    OFFSET 0
) t
