-- Not of slots that are another shard's now (see leftovers).
SELECT slot, user_id, tag FROM users WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
