-- Owner, user and balances in one snapshot. A slot may come or go between two statements, and the second one would read
-- another moment than the owner.
SELECT b.currency, b.balance, u.user_id IS NOT NULL AS user_exists, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
LEFT JOIN balances b ON b.slot = u.slot AND b.user_id = u.user_id
ORDER BY b.currency
