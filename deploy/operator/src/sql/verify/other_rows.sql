-- The rows of all tables of users but the transactions, each by itself, but for those of slots that are another shard's now (see
-- leftovers): in a slot of the shard, of a user that is there, with values that PicoPay writes. $1 and $2: the currencies in use
-- that exist, and their decimals. A credit may be of no user: that there is none is what it says.
WITH rows AS (
    SELECT r.table_name, r.slot, r.user_id, NULL::text AS currency, NULL::uuid AS id, NULL::numeric AS amount,
           u.user_id IS NOT NULL OR r.table_name = 'transfer_credits' AS has_user
    FROM rows_of_users r
    LEFT JOIN users u ON u.slot = r.slot AND u.user_id = r.user_id
    WHERE r.table_name <> 'transactions'
  UNION ALL
    SELECT 'balances', slot, user_id, currency, NULL, balance, true FROM balances
  UNION ALL
    SELECT 'holds', slot, user_id, currency, id, amount, true FROM holds
  UNION ALL
    SELECT 'transfers', slot, user_id, currency, id, amount, true FROM transfers
  UNION ALL
    SELECT 'transfer_credits', slot, user_id, currency, transfer_id, amount, true FROM transfer_credits
),
wrong AS (
    SELECT table_name, check_name, expected, found,
           json_strip_nulls(json_build_object('slot', r.slot, 'user_id', r.user_id, 'currency', r.currency, 'id', r.id)) AS key
    FROM rows r
    LEFT JOIN slot_owner o ON o.slot = r.slot
    LEFT JOIN unnest($1::text[], $2::integer[]) AS c (currency, decimals) ON c.currency = r.currency
    CROSS JOIN LATERAL (SELECT
        o.slot IS NULL AND r.currency IS NULL AS is_elsewhere,
        NOT r.has_user AS has_no_user,
        r.amount < 0 OR r.amount = 'NaN' AS is_negative,
        r.currency IS NOT NULL AND c.currency IS NULL AS is_no_currency,
        r.amount <> trunc(r.amount, c.decimals) AS is_too_fine
    ) AS row_is
    CROSS JOIN LATERAL (VALUES
        (is_elsewhere, 'owned', 'a slot that the shard owns', 'slot ' || r.slot),
        (has_no_user, 'user', 'a row in users', 'no row'),
        (is_negative, 'value', CASE table_name WHEN 'balances' THEN 'a balance' ELSE 'an amount' END || ' of 0 or more',
         r.amount::text),
        (is_no_currency, 'value', 'a currency of ISO 4217', r.currency),
        (is_too_fine, 'value', 'at most ' || c.decimals || ' decimals in ' || r.currency, r.amount::text)
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
