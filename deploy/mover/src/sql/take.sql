-- $1 slots, $2 the epochs at which this shard imports them, $3 this shard.
UPDATE slot_owner o
SET state = 'owned', owner = $3, changed_at = now()
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, epoch)
WHERE o.slot = w.slot AND o.state = 'importing' AND o.epoch = w.epoch
