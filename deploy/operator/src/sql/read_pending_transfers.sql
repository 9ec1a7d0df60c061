-- How many transfers of this shard's senders are not ended, and for how long the oldest has been pending, in seconds.
SELECT count(*), coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(t.created_at))), 0)::bigint
FROM transfers f
JOIN slot_owner o ON o.slot = f.slot AND o.state = 'owned'
JOIN transactions t ON t.slot = f.slot AND t.user_id = f.user_id AND t.id = f.id
WHERE f.ended_at IS NULL
