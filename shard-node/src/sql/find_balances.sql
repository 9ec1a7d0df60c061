-- Owner, user and balances in one snapshot. A slot may come or go between two statements, and the second one would read
-- another moment than the owner. For several users at once; n: which one. A hold
-- that has run out holds nothing, whether or not that was written down; it is looked for only where there may be one.
SELECT w.n, b.currency, b.balance,
       CASE
           WHEN b.hold_due_at <= c.now THEN b.held - coalesce((
               SELECT sum(h.amount) FROM holds h
               WHERE h.slot = b.slot AND h.user_id = b.user_id AND h.state = 'open' AND h.expires_at <= c.now
                   AND h.currency = b.currency
           ), 0)
           ELSE b.held
       END AS held,
       u.user_exists, o.state, o.owner, o.epoch
FROM (SELECT clock_timestamp() AS now OFFSET 0) c
CROSS JOIN unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS w (slot, user_id, n)
LEFT JOIN LATERAL (
    SELECT state, owner, epoch FROM slot_owner WHERE slot = w.slot
    OFFSET 0
) o ON true
LEFT JOIN LATERAL (
    SELECT true AS user_exists FROM users WHERE slot = w.slot AND user_id = w.user_id
    OFFSET 0
) u ON true
LEFT JOIN LATERAL (
    SELECT * FROM balances WHERE slot = w.slot AND user_id = w.user_id
    OFFSET 0
) b ON u.user_exists
