-- Balances against the sum of their postings, in both directions: a balance without postings and postings
-- without a balance are as wrong as a wrong sum.
SELECT 'balance' AS check_name,
       'balances' AS table_name,
       json_build_object('slot', slot, 'user_id', user_id, 'currency', currency) AS key,
       coalesce(p.total::text, 'no row, since there are no postings') AS expected,
       coalesce(b.balance::text, 'no row') AS found,
       count(*) OVER () AS wrong
FROM balances b
FULL JOIN (
    SELECT slot, user_id, currency, sum(CASE kind WHEN 'charge' THEN -amount ELSE amount END) AS total
    FROM transactions
    WHERE refusal IS NULL
    GROUP BY slot, user_id, currency
) p USING (slot, user_id, currency)
WHERE b.balance IS DISTINCT FROM p.total
ORDER BY slot, user_id, currency
LIMIT 20
