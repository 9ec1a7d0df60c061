-- What is in transit from this shard, by currency, and since when the oldest is. Reads an index of the unfinished ones.
SELECT f.currency, count(*), sum(f.amount), extract(epoch FROM clock_timestamp() - min(t.created_at))::double precision
FROM transfers f
JOIN slot_owner o ON o.slot = f.slot AND o.state = 'owned'
JOIN transactions t ON t.slot = f.slot AND t.user_id = f.user_id AND t.id = f.id
WHERE f.ended_at IS NULL
GROUP BY f.currency
