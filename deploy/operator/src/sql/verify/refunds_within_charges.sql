-- Completed refunds per charge against the charge itself and against the total that the bound stands on.
-- Not of slots that are another shard's now (see leftovers).
WITH given AS (
    SELECT slot, user_id, charge_id, sum(amount) AS refunded,
           min(currency) AS currency, max(currency) AS other_currency
    FROM transactions
    WHERE kind = 'refund' AND refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    GROUP BY slot, user_id, charge_id
), per_charge AS (
    SELECT slot, user_id, charge_id, g.refunded, g.currency, g.other_currency, r.refunded AS total, r.charged
    FROM given g
    FULL JOIN (
        SELECT * FROM refund_totals WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    ) r USING (slot, user_id, charge_id)
), compared AS (
    SELECT p.*, c.amount, c.currency AS charge_currency,
           (c.kind = 'charge' AND c.refusal IS NULL) IS TRUE AS is_charge
    FROM per_charge p
    LEFT JOIN transactions c ON c.slot = p.slot AND c.user_id = p.user_id AND c.id = p.charge_id
)
SELECT 'refund' AS check_name,
       table_name,
       json_build_object('slot', slot, 'user_id', user_id, 'charge_id', charge_id) AS key,
       expected,
       found,
       count(*) OVER () AS wrong
FROM compared
CROSS JOIN LATERAL (VALUES
    (NOT is_charge, 'transactions', 'refunds of a completed charge of the same user', 'there is no such charge'),
    (is_charge AND refunded > amount, 'transactions', 'at most ' || amount || ' refunded', refunded::text),
    (is_charge AND (currency <> charge_currency OR other_currency <> charge_currency), 'transactions',
     'refunds in ' || charge_currency, concat_ws(', ', currency, nullif(other_currency, currency))),
    (total IS DISTINCT FROM refunded, 'refund_totals',
     'refunded ' || coalesce(refunded::text, 'nothing, so no row'), coalesce(total::text, 'no row')),
    (is_charge AND charged <> amount, 'refund_totals', 'charged ' || amount, charged::text)
) AS judged (is_wrong, table_name, expected, found)
WHERE is_wrong
ORDER BY slot, user_id, charge_id
LIMIT 20
