-- Before the users are locked, and in the order of keys: a concurrent insert of the same user is waited for, and its row
-- is then locked like any other. Only users that pass the fence: their slots are owned here, at the epoch of the request
-- or a higher one.
INSERT INTO users (slot, user_id, tag)
SELECT w.slot, w.user_id, w.tag
FROM unnest($1::smallint[], $2::bigint[], $3::integer[], $4::bigint[]) AS w (slot, user_id, tag, seen_epoch)
CROSS JOIN LATERAL (
    SELECT FROM slot_owner
    WHERE slot = w.slot AND state = 'owned' AND epoch >= w.seen_epoch
    OFFSET 0
) o
ORDER BY w.slot, w.user_id
ON CONFLICT DO NOTHING
RETURNING user_id
