-- Users, balances and refund totals, each row by itself, but for those of slots that are another shard's now (see
-- leftovers): in a slot of the shard, of a user that is there, with values that PicoPay writes. $1 and $2: the currencies
-- in use that exist, and their decimals.
WITH wrong AS (
    SELECT 'users' AS table_name, json_build_object('slot', u.slot, 'user_id', u.user_id) AS key,
           check_name, expected, found
    FROM users u
    LEFT JOIN slot_owner o ON o.slot = u.slot
    CROSS JOIN LATERAL (VALUES
        (o.slot IS NULL, 'owned', 'a slot that the shard owns', 'slot ' || u.slot)
    ) AS reasons (is_wrong, check_name, expected, found)
    WHERE o.slot IS NULL AND is_wrong
  UNION ALL
    SELECT 'balances', json_build_object('slot', b.slot, 'user_id', b.user_id, 'currency', b.currency),
           check_name, expected, found
    FROM balances b
    LEFT JOIN users u ON u.slot = b.slot AND u.user_id = b.user_id
    LEFT JOIN slot_owner o ON o.slot = b.slot
    LEFT JOIN unnest($1::text[], $2::integer[]) AS c (currency, decimals) ON c.currency = b.currency
    CROSS JOIN LATERAL (VALUES
        (o.slot IS NULL, 'owned', 'a slot that the shard owns', 'slot ' || b.slot),
        (u.user_id IS NULL, 'user', 'a row in users', 'no row'),
        (b.balance < 0 OR b.balance = 'NaN', 'value', 'a balance of 0 or more', b.balance::text),
        (c.currency IS NULL, 'value', 'a currency of ISO 4217', b.currency),
        (b.balance <> trunc(b.balance, c.decimals), 'value',
         'at most ' || c.decimals || ' decimals in ' || b.currency, b.balance::text)
    ) AS reasons (is_wrong, check_name, expected, found)
    WHERE (o.slot IS NULL OR u.user_id IS NULL OR b.balance < 0 OR b.balance = 'NaN' OR c.currency IS NULL
           OR b.balance <> trunc(b.balance, c.decimals))
      AND (o.slot IS NULL OR o.state = 'owned') AND is_wrong
  UNION ALL
    SELECT 'refund_totals', json_build_object('slot', r.slot, 'user_id', r.user_id, 'charge_id', r.charge_id),
           check_name, expected, found
    FROM refund_totals r
    LEFT JOIN users u ON u.slot = r.slot AND u.user_id = r.user_id
    LEFT JOIN slot_owner o ON o.slot = r.slot
    CROSS JOIN LATERAL (VALUES
        (o.slot IS NULL, 'owned', 'a slot that the shard owns', 'slot ' || r.slot),
        (u.user_id IS NULL, 'user', 'a row in users', 'no row')
    ) AS reasons (is_wrong, check_name, expected, found)
    WHERE (o.slot IS NULL OR u.user_id IS NULL) AND (o.slot IS NULL OR o.state = 'owned') AND is_wrong
)
SELECT check_name, table_name, key, expected, found, wrong
FROM (
    SELECT *,
           count(*) OVER (PARTITION BY check_name) AS wrong,
           row_number() OVER (PARTITION BY check_name ORDER BY table_name, key::text) AS position
    FROM wrong
) numbered
WHERE position <= 20
ORDER BY check_name, position
