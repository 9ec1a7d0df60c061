-- Ids rise with time, so the primary key gives the order, the page and the bounds of time; read backwards.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining
FROM transactions t
WHERE t.slot = $1 AND t.user_id = $2
  AND t.id >= $3 AND t.id < $4
  AND t.refusal IS NULL
  AND ($5::text IS NULL OR t.kind = $5)
ORDER BY t.slot DESC, t.user_id DESC, t.id DESC
LIMIT $6
