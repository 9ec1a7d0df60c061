-- What was acknowledged and is not here, of the slots that this database owns. A slot that moved away took its rows
-- along, and they are at its new owner.
SELECT w.slot, w.user_id, w.id
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, id)
WHERE EXISTS (SELECT FROM slot_owner o WHERE o.slot = w.slot AND o.state = 'owned')
    AND NOT EXISTS (SELECT FROM transactions t WHERE t.slot = w.slot AND t.user_id = w.user_id AND t.id = w.id)
LIMIT 1
