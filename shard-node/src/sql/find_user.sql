-- For reads: who owns the slot, and whether the user exists, in one snapshot.
SELECT o.state, o.owner, o.epoch, u.user_id IS NOT NULL AS user_exists
FROM (SELECT $1::smallint AS slot) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = $2::bigint
