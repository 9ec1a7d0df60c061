-- Acknowledged writes that are not in the ledger just as they were acknowledged. The answer to a void does not say its
-- id: it is found by its key. A key with two rows is a finding of `keys_once.sql`, and must not end this look. The answers
-- to a hold and a void do not say the balance.
WITH acknowledged AS (
    SELECT a.position, a.slot, a.user_id, a.kind, a.amount, a.currency, a.balance_after, a.idempotency_key,
           COALESCE(a.id, (
               SELECT t.id FROM transactions t
               WHERE t.slot = a.slot AND t.idempotency_key = a.idempotency_key AND t.user_id = a.user_id
               ORDER BY t.id LIMIT 1
           )) AS id
    FROM unnest(
        $1::integer[], $2::smallint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[]
    ) AS a (position, slot, user_id, id, kind, amount, currency, balance_after, idempotency_key)
)
SELECT a.position, t.id IS NOT NULL, t.refusal, t.kind, t.amount::text, t.currency, t.balance_after::text,
       t.idempotency_key
FROM acknowledged a
LEFT JOIN transactions t ON t.slot = a.slot AND t.user_id = a.user_id AND t.id = a.id
WHERE t.id IS NULL
   OR t.refusal IS NOT NULL
   OR t.kind <> a.kind
   OR t.amount <> a.amount::numeric
   OR t.currency <> a.currency
   OR t.balance_after <> a.balance_after::numeric
   OR t.idempotency_key IS DISTINCT FROM a.idempotency_key
ORDER BY a.position
