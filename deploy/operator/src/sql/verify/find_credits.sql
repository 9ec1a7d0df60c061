-- What was decided about credits to users of this shard. $1 slots, $2 recipients, $3 transfers.
SELECT w.position - 1, c.from_user_id, c.currency, c.amount::text, coalesce(c.refusal, 'given')
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) WITH ORDINALITY AS w (slot, user_id, id, position)
JOIN slot_owner o ON o.slot = w.slot AND o.state = 'owned'
JOIN transfer_credits c ON c.slot = w.slot AND c.user_id = w.user_id AND c.transfer_id = w.id
