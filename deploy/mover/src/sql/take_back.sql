-- $1 slots whose target is aborted, $2 the epochs of their release, $3 this shard, $4 the target.
UPDATE slot_owner o
SET state = 'owned', owner = $3, epoch = o.epoch + 1, changed_at = now()
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, epoch)
WHERE o.slot = w.slot AND o.state = 'released' AND o.owner = $4 AND o.epoch = w.epoch
