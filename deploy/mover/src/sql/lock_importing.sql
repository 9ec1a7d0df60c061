-- Until the end of the database transaction nobody else can abort this import or end it.
SELECT o.slot
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, epoch)
JOIN slot_owner o ON o.slot = w.slot AND o.epoch = w.epoch AND o.state = 'importing' AND o.owner = $3
ORDER BY o.slot
FOR UPDATE OF o
