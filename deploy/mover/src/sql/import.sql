-- $1 slots, $2 their epochs here, $3 who owns them now. Never over a row that owns the slot or is as new.
INSERT INTO slot_owner AS o (slot, state, owner, epoch)
SELECT w.slot, 'importing', $3, w.epoch FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, epoch)
ON CONFLICT (slot) DO UPDATE
SET state = 'importing', owner = excluded.owner, epoch = excluded.epoch, changed_at = now()
WHERE o.state <> 'owned' AND o.epoch < excluded.epoch
