-- Users, balances, refund totals and holds, each row by itself, but for those of slots that are another shard's now (see
-- leftovers): in a slot of the shard, of a user that is there, with values that PicoPay writes. $1 and $2: the currencies
-- in use that exist, and their decimals.
WITH rows AS (
    SELECT 'users' AS table_name, slot, user_id, NULL::text AS currency, NULL::uuid AS charge_id,
           NULL::numeric AS balance, true AS has_user
    FROM users
  UNION ALL
    SELECT 'balances', b.slot, b.user_id, b.currency, NULL, b.balance, u.user_id IS NOT NULL
    FROM balances b
    LEFT JOIN users u ON u.slot = b.slot AND u.user_id = b.user_id
  UNION ALL
    SELECT 'refund_totals', r.slot, r.user_id, NULL, r.charge_id, NULL, u.user_id IS NOT NULL
    FROM refund_totals r
    LEFT JOIN users u ON u.slot = r.slot AND u.user_id = r.user_id
  UNION ALL
    SELECT 'holds', h.slot, h.user_id, h.currency, h.id, h.amount, u.user_id IS NOT NULL
    FROM holds h
    LEFT JOIN users u ON u.slot = h.slot AND u.user_id = h.user_id
),
wrong AS (
    SELECT table_name, check_name, expected, found,
           json_strip_nulls(json_build_object('slot', r.slot, 'user_id', r.user_id, 'currency', r.currency,
                                              'charge_id', r.charge_id)) AS key
    FROM rows r
    LEFT JOIN slot_owner o ON o.slot = r.slot
    LEFT JOIN unnest($1::text[], $2::integer[]) AS c (currency, decimals) ON c.currency = r.currency
    CROSS JOIN LATERAL (SELECT
        o.slot IS NULL AS is_elsewhere,
        NOT r.has_user AS has_no_user,
        r.balance < 0 OR r.balance = 'NaN' AS is_negative,
        r.currency IS NOT NULL AND c.currency IS NULL AS is_no_currency,
        r.balance <> trunc(r.balance, c.decimals) AS is_too_fine
    ) AS row_is
    CROSS JOIN LATERAL (VALUES
        (is_elsewhere, 'owned', 'a slot that the shard owns', 'slot ' || r.slot),
        (has_no_user, 'user', 'a row in users', 'no row'),
        (is_negative, 'value', 'a balance of 0 or more', r.balance::text),
        (is_no_currency, 'value', 'a currency of ISO 4217', r.currency),
        (is_too_fine, 'value', 'at most ' || c.decimals || ' decimals in ' || r.currency, r.balance::text)
    ) AS reasons (is_wrong, check_name, expected, found)
    -- The reasons are made for wrong rows only: they cost more than reading a row.
    WHERE (is_elsewhere OR has_no_user OR is_negative OR is_no_currency OR is_too_fine)
      AND (o.slot IS NULL OR o.state = 'owned') AND is_wrong
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
