-- Transactions and users in owned slots, and whatever is in slots that are not owned. One statement, so one snapshot.
WITH owned AS (SELECT slot FROM slot_owner WHERE state = 'owned'),
rows (slot, what, count) AS (
    SELECT slot, 'transactions', count(*) FROM transactions GROUP BY slot
    UNION ALL SELECT slot, 'users', count(*) FROM users GROUP BY slot
    UNION ALL SELECT slot, 'balances', count(*) FROM balances GROUP BY slot
    UNION ALL SELECT slot, 'refund_totals', count(*) FROM refund_totals GROUP BY slot
)
SELECT coalesce(sum(count) FILTER (WHERE what = 'transactions' AND owned.slot IS NOT NULL), 0)::bigint,
       coalesce(sum(count) FILTER (WHERE what = 'users' AND owned.slot IS NOT NULL), 0)::bigint,
       coalesce(sum(count) FILTER (WHERE owned.slot IS NULL), 0)::bigint
FROM rows LEFT JOIN owned USING (slot)
