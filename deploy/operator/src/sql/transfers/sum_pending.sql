-- What has left the senders of this shard and is not ended.
SELECT f.currency, count(*), sum(f.amount)
FROM transfers f
JOIN slot_owner o ON o.slot = f.slot AND o.state = 'owned'
WHERE f.ended_at IS NULL
GROUP BY f.currency
ORDER BY f.currency
