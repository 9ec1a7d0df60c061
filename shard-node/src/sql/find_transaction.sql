SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining
FROM users u
JOIN transactions t ON t.slot = u.slot AND t.user_id = u.user_id AND t.id = $3
WHERE u.slot = $1 AND u.tag = $2 AND t.refusal IS NULL
