-- Balances against the sum of their postings, in both directions: a balance without postings and postings
-- without a balance are as wrong as a wrong sum. Not of slots that are another shard's now (see leftovers).
SELECT 'balance' AS check_name,
       'balances' AS table_name,
       json_build_object('slot', slot, 'user_id', user_id, 'currency', currency) AS key,
       coalesce(p.total::text, 'no row, since there are no postings') AS expected,
       coalesce(b.balance::text, 'no row') AS found,
       count(*) OVER () AS wrong
FROM (SELECT * FROM balances WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')) b
FULL JOIN (
    SELECT slot, user_id, currency, sum(CASE WHEN kind IN ('charge', 'transfer_out') THEN -amount WHEN kind IN ('hold', 'void', 'expiry') THEN 0 ELSE amount END) AS total
    FROM transactions
    WHERE refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    GROUP BY slot, user_id, currency
) p USING (slot, user_id, currency)
WHERE b.balance IS DISTINCT FROM p.total
ORDER BY slot, user_id, currency
LIMIT 20
