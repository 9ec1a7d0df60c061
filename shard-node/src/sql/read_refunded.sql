-- Finds the user of an id by the tag in it. Transactions never change, so this may run before the lock.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining
FROM unnest($1::smallint[], $2::integer[], $3::uuid[]) AS w (slot, tag, id)
JOIN users u ON u.slot = w.slot AND u.tag = w.tag
JOIN transactions t ON t.slot = u.slot AND t.user_id = u.user_id AND t.id = w.id
WHERE t.refusal IS NULL
