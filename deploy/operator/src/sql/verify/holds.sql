-- What is held of each balance against the open holds, and each hold against the transactions that took and ended it.
-- Not of slots that are another shard's now (see leftovers).
WITH open AS (
    SELECT slot, user_id, currency, sum(amount) AS held, count(*) AS holds, min(expires_at) AS due
    FROM holds
    WHERE state = 'open' AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    GROUP BY slot, user_id, currency
), balance AS (
    SELECT slot, user_id, currency, held, open_holds, hold_due_at
    FROM balances
    WHERE (held <> 0 OR open_holds <> 0 OR hold_due_at IS NOT NULL)
        AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), hold AS (
    SELECT slot, user_id, id AS hold_id, state, amount, currency, captured, expires_at, ended_by
    FROM holds
    WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), taken AS (
    SELECT slot, user_id, id AS hold_id, amount, currency, expires_at
    FROM transactions
    WHERE kind = 'hold' AND refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), ended AS (
    SELECT slot, user_id, hold_id, id, amount, currency, CASE kind WHEN 'charge' THEN amount ELSE 0 END AS captured,
           CASE kind WHEN 'charge' THEN 'captured' WHEN 'void' THEN 'voided' ELSE 'expired' END AS state
    FROM transactions
    WHERE hold_id IS NOT NULL AND refusal IS NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
), wrong AS (
    SELECT 'balances' AS table_name,
           json_build_object('slot', slot, 'user_id', user_id, 'currency', currency) AS key,
           coalesce(o.held, 0) || ' held by ' || coalesce(o.holds, 0) || ' open holds' AS expected,
           coalesce(b.held || ' held by ' || b.open_holds || ', due ' || coalesce(b.hold_due_at::text, 'never'), 'nothing held')
               AS found
    FROM open o
    FULL JOIN balance b USING (slot, user_id, currency)
    WHERE b.held IS DISTINCT FROM o.held OR b.open_holds IS DISTINCT FROM o.holds
       -- The moment may be too early, and never too late.
       OR b.hold_due_at IS NULL OR b.hold_due_at > o.due
  UNION ALL
    SELECT 'holds', json_build_object('slot', slot, 'user_id', user_id, 'id', hold_id),
           coalesce(t.amount || ' ' || t.currency || ' until ' || t.expires_at, 'no row, since nobody took it'),
           coalesce(h.amount || ' ' || h.currency || ' until ' || h.expires_at, 'no row')
    FROM hold h
    FULL JOIN taken t USING (slot, user_id, hold_id)
    WHERE (h.amount, h.currency, h.expires_at) IS DISTINCT FROM (t.amount, t.currency, t.expires_at)
  UNION ALL
    SELECT 'holds', json_build_object('slot', slot, 'user_id', user_id, 'id', hold_id),
           coalesce(e.state || ' by ' || e.id || ', ' || e.captured || ' captured', 'open, and nothing captured'),
           coalesce(h.state || coalesce(' by ' || h.ended_by, '') || ', ' || h.captured || ' captured', 'no row')
    FROM hold h
    FULL JOIN ended e USING (slot, user_id, hold_id)
    WHERE (h.state, h.ended_by, h.captured) IS DISTINCT FROM (coalesce(e.state, 'open'), e.id, coalesce(e.captured, 0))
       OR h.captured > h.amount OR h.currency <> e.currency
)
SELECT 'hold' AS check_name, table_name, key, expected, found, count(*) OVER () AS wrong
FROM wrong
ORDER BY table_name, key::text
LIMIT 20
