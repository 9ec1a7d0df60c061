-- The currencies of credits that were refused. Not of slots that are another shard's now (see leftovers).
SELECT DISTINCT currency
FROM transfer_credits
WHERE refusal IS NOT NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
