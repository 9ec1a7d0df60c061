-- The transfers of senders of this shard. $1 slots, $2 senders, $3 ids.
SELECT w.position - 1, f.to_user_id, f.currency, f.amount::text, CASE WHEN f.ended_at IS NOT NULL THEN coalesce(f.reason, 'given') END
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) WITH ORDINALITY AS w (slot, user_id, id, position)
JOIN slot_owner o ON o.slot = w.slot AND o.state = 'owned'
JOIN transfers f ON f.slot = w.slot AND f.user_id = w.user_id AND f.id = w.id
