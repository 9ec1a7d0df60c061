-- Each transfer and each credit of the shard against the transactions that say what was moved, and what is pending for long.
-- Whether both sides of a transfer agree is looked up elsewhere: they may be of two shards. Not of slots that are another
-- shard's now (see leftovers).
WITH steps AS (
    SELECT slot, user_id, id, transfer_id, other_user_id, kind, amount, currency, created_at
    FROM transactions
    WHERE transfer_id IS NOT NULL AND refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), transfer AS (
    SELECT slot, user_id, id AS transfer_id, to_user_id, state, amount, currency
    FROM transfers
    WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), credit AS (
    SELECT slot, user_id, transfer_id, transaction_id, from_user_id, amount, currency
    FROM transfer_credits
    WHERE refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), wrong AS (
    SELECT 'transfers' AS table_name, json_build_object('slot', slot, 'user_id', user_id, 'id', transfer_id) AS key,
           coalesce(s.amount || ' ' || s.currency || ' to ' || s.other_user_id, 'no row, since nothing was taken') AS expected,
           coalesce(t.amount || ' ' || t.currency || ' to ' || t.to_user_id, 'no row') AS found
    FROM transfer t
    FULL JOIN (SELECT * FROM steps WHERE kind = 'transfer_out' AND id = transfer_id) s USING (slot, user_id, transfer_id)
    WHERE (t.amount, t.currency, t.to_user_id) IS DISTINCT FROM (s.amount, s.currency, s.other_user_id)
  UNION ALL
    SELECT 'transfers', json_build_object('slot', slot, 'user_id', user_id, 'id', transfer_id),
           CASE WHEN t.state = 'reversed' THEN t.amount || ' ' || t.currency || ' back once' ELSE 'nothing back' END,
           coalesce(b.amount || ' ' || b.currency || ' back in ' || b.steps || ' steps', 'nothing back')
    FROM transfer t
    FULL JOIN (
        SELECT slot, user_id, transfer_id, sum(amount) AS amount, min(currency) AS currency, count(*) AS steps
        FROM steps
        WHERE kind = 'transfer_back'
        GROUP BY slot, user_id, transfer_id
    ) b USING (slot, user_id, transfer_id)
    WHERE CASE WHEN t.state = 'reversed'
               THEN (b.steps, b.amount, b.currency) IS DISTINCT FROM (1, t.amount, t.currency)
               ELSE b.steps IS NOT NULL
          END
  UNION ALL
    SELECT 'transfer_credits', json_build_object('slot', slot, 'user_id', user_id, 'transfer_id', transfer_id),
           '1 credit at most', count(*) || ' credits'
    FROM credit
    GROUP BY slot, user_id, transfer_id
    HAVING count(*) > 1
  UNION ALL
    SELECT 'transfer_credits', json_build_object('slot', k.slot, 'user_id', k.user_id, 'transfer_id', k.transfer_id),
           coalesce(s.amount || ' ' || s.currency || ' from ' || s.other_user_id, 'no row, since nothing was given'),
           coalesce(c.amount || ' ' || c.currency || ' from ' || c.from_user_id, 'no row')
    FROM credit c
    FULL JOIN (SELECT * FROM steps WHERE kind = 'transfer_in') s
        ON s.slot = c.slot AND s.user_id = c.user_id AND s.transfer_id = c.transfer_id AND s.id = c.transaction_id
    CROSS JOIN LATERAL (
        SELECT coalesce(c.slot, s.slot) AS slot, coalesce(c.user_id, s.user_id) AS user_id,
               coalesce(c.transfer_id, s.transfer_id) AS transfer_id
    ) k
    WHERE (c.amount, c.currency, c.from_user_id) IS DISTINCT FROM (s.amount, s.currency, s.other_user_id)
  UNION ALL
    SELECT 'transfers', json_build_object('slot', slot, 'user_id', user_id, 'id', transfer_id),
           'an end within a minute', 'pending since ' || s.created_at
    FROM transfer t
    JOIN (SELECT * FROM steps WHERE kind = 'transfer_out') s USING (slot, user_id, transfer_id)
    WHERE t.state = 'debited' AND s.created_at < now() - interval '1 minute'
)
SELECT 'transfer' AS check_name, table_name, key, expected, found, count(*) OVER () AS wrong
FROM wrong
ORDER BY table_name, key::text
LIMIT 20
