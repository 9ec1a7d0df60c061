-- Owner, user and balances in one snapshot. A slot may come or go between two statements, and the second one would read
-- another moment than the owner. A hold that has run out holds nothing, whether or not that was written down; it is looked for
-- only where there may be one.
SELECT b.currency, b.balance,
       CASE
           WHEN b.hold_due_at <= c.now THEN b.held - coalesce((
               SELECT sum(h.amount) FROM holds h
               WHERE h.slot = b.slot AND h.user_id = b.user_id AND h.state = 'open' AND h.expires_at <= c.now
                   AND h.currency = b.currency
           ), 0)
           ELSE b.held
       END AS held,
       u.user_id IS NOT NULL AS user_exists, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id) w
CROSS JOIN (SELECT clock_timestamp() AS now OFFSET 0) c
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
LEFT JOIN balances b ON b.slot = u.slot AND b.user_id = u.user_id
ORDER BY b.currency
