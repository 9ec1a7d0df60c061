-- Every transaction leads from the balance that one other left to its own `balance_after`, from zero to the last
-- balance. In which order is not asked: before a user's balance kept the stamp of his last id, ids followed the clocks of
-- nodes, so the order of old ids may differ from the order of booking, and a check of that order would raise false alarms.
--
-- Without an order it stays true that the balances before and the balances after are the same collection, but
-- for the zero at the start and the balance at the end. Sums of 64-bit hashes compare the two collections in one pass:
-- equal collections have equal sums, always, and different ones have them by a chance of one in 2^64.
WITH broken AS MATERIALIZED (
    SELECT slot, user_id, currency, count(*) OVER () AS wrong
    FROM (
        SELECT slot, user_id, currency,
               sum(posting) AS last,
               sum(hash_numeric_extended(balance_after, 0)) AS after,
               sum(hash_numeric_extended(balance_after - posting, 0)) AS before
        FROM (
            SELECT slot, user_id, currency, balance_after,
                   CASE WHEN kind IN ('charge', 'transfer_out') THEN -amount WHEN kind IN ('hold', 'void', 'expiry') THEN 0 ELSE amount END AS posting
            FROM transactions
            -- Not of slots that are another shard's now (see leftovers).
            WHERE refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
        ) t
        GROUP BY slot, user_id, currency
    ) chains
    WHERE after - before <> hash_numeric_extended(last, 0)::numeric - hash_numeric_extended(0, 0)::numeric
    ORDER BY slot, user_id, currency
    LIMIT 20
)
-- Where it breaks is shown in the order of ids, which is nearly always that of booking.
SELECT 'balance_after' AS check_name,
       'transactions' AS table_name,
       json_build_object('slot', b.slot, 'user_id', b.user_id, 'currency', b.currency, 'id', f.id) AS key,
       f.expected::text AS expected,
       f.balance_after::text AS found,
       b.wrong
FROM broken b
CROSS JOIN LATERAL (
    SELECT id, balance_after, expected
    FROM (
        SELECT id, balance_after,
               sum(CASE WHEN kind IN ('charge', 'transfer_out') THEN -amount WHEN kind IN ('hold', 'void', 'expiry') THEN 0 ELSE amount END) OVER (ORDER BY id) AS expected
        FROM transactions t
        WHERE t.slot = b.slot AND t.user_id = b.user_id AND t.currency = b.currency AND t.refusal IS NULL
    ) in_order
    WHERE balance_after <> expected
    ORDER BY id
    LIMIT 1
) f
ORDER BY b.slot, b.user_id, b.currency
