-- $1 slots, $2 the epochs at which this shard imported them. What was aborted before is written once more, so that this
-- commit stands behind it and says that the standby has it.
UPDATE slot_owner o
SET state = 'aborted', changed_at = now()
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, epoch)
WHERE o.slot = w.slot AND o.state IN ('importing', 'aborted') AND o.epoch = w.epoch
RETURNING o.slot
