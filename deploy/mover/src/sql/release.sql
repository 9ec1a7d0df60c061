-- Under the fence. $1 slots, $2 the epochs at which the target imports them, $3 this shard, $4 the target.
UPDATE slot_owner o
SET state = 'released', owner = $4, epoch = w.epoch, changed_at = now()
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, epoch)
WHERE o.slot = w.slot AND o.state = 'owned' AND o.owner = $3 AND o.epoch < w.epoch
