-- Finds the user of an id by the tag in it. Transactions never change, so this may run before the lock.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by
FROM unnest($1::smallint[], $2::integer[], $3::uuid[]) AS w (slot, tag, id)
CROSS JOIN LATERAL (
    SELECT slot, user_id FROM users
    WHERE slot = w.slot AND tag = w.tag
    OFFSET 0
) u
CROSS JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = u.slot AND user_id = u.user_id AND id = w.id
    OFFSET 0
) t
WHERE t.refusal IS NULL
