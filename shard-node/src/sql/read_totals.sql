-- All balances of slots that this shard owns, with the owners, in one snapshot. $1: the slots that are asked for, each once.
-- One row for each of them that is not owned here, whose rows are leftovers or not complete, and one for each currency.
-- What has run out holds nothing, whether or not that was written down; those holds are few, and have an index.
-- This costs by the number of balances: the orders are those of indexes, and nothing is sorted here, so that the planner
-- takes these whatever it believes. With an OFFSET, credits are looked up one by one, and never hashed.
WITH asked AS MATERIALIZED (
    SELECT w.slot, o.state, o.owner, o.epoch
    FROM unnest($1::smallint[]) AS w (slot)
    LEFT JOIN slot_owner o ON o.slot = w.slot
),
clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
run_out AS MATERIALIZED (
    SELECT h.currency, sum(h.amount) AS amount
    FROM clock c
    CROSS JOIN LATERAL (
        SELECT slot, currency, amount FROM holds WHERE ended_by IS NULL AND expires_at <= c.now
        ORDER BY expires_at
        OFFSET 0
    ) h
    JOIN asked a ON a.slot = h.slot AND a.state = 'owned'
    GROUP BY h.currency
),
-- Unfinished transfers are few, and have an index. What their recipients of this shard have already is in a balance. What those
-- of another shard have cannot be seen here: it counts until the transfer is ended.
transit AS MATERIALIZED (
    SELECT t.currency, sum(t.amount) AS amount
    FROM (
        SELECT slot, id, to_slot, to_user_id, currency, amount FROM transfers WHERE ended_at IS NULL
        ORDER BY next_try_at
        OFFSET 0
    ) t
    JOIN asked a ON a.slot = t.slot AND a.state = 'owned'
    WHERE NOT EXISTS (
        SELECT FROM transfer_credits c
        WHERE c.slot = t.to_slot AND c.user_id = t.to_user_id AND c.transfer_id = t.id AND c.refusal IS NULL
        OFFSET 0
    )
    GROUP BY t.currency
),
here AS MATERIALIZED (
    SELECT b.currency, count(*) AS users, sum(b.balance) AS balance, sum(b.held) AS held
    FROM balances b
    JOIN asked a ON a.slot = b.slot AND a.state = 'owned'
    GROUP BY b.currency
)
SELECT slot, state, owner, epoch,
       NULL::text AS currency, NULL::bigint AS users, NULL::numeric AS balance, NULL::numeric AS held,
       NULL::numeric AS in_transit
FROM asked
WHERE state IS DISTINCT FROM 'owned'
UNION ALL
SELECT NULL, NULL, NULL, NULL,
       here.currency, here.users, here.balance, here.held - coalesce(run_out.amount, 0), coalesce(transit.amount, 0)
FROM here
LEFT JOIN run_out ON run_out.currency = here.currency
LEFT JOIN transit ON transit.currency = here.currency
