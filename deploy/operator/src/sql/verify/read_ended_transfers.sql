-- All transfers that are ended, as they ended. Not of slots that are another shard's now (see leftovers).
SELECT user_id, id, to_user_id, currency, amount::text, coalesce(reason, 'given')
FROM transfers
WHERE ended_at IS NOT NULL AND slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
