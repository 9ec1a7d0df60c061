-- One transaction per user and key. Across shards it follows from two other checks: a user's rows are in the one
-- slot that their id hashes to, and no slot is owned twice, or has rows that count where it is not owned.
SELECT 'key' AS check_name,
       'transactions' AS table_name,
       json_build_object('slot', slot, 'user_id', user_id, 'idempotency_key', idempotency_key) AS key,
       '1 transaction' AS expected,
       found::text || ' transactions' AS found,
       count(*) OVER () AS wrong
FROM (
    SELECT slot, user_id, idempotency_key, count(*) AS found
    FROM transactions
    -- An expiry has none, nor have the later steps of a transfer.
    WHERE idempotency_key IS NOT NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    GROUP BY slot, user_id, idempotency_key
    HAVING count(*) > 1
) repeated
ORDER BY slot, user_id, idempotency_key
LIMIT 20
