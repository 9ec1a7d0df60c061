-- All decisions about credits. Not of slots that are another shard's now (see leftovers).
SELECT user_id, transfer_id, from_user_id, currency, amount::text, coalesce(refusal, 'given')
FROM transfer_credits
WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
