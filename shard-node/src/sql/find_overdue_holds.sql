-- By an index that nobody else can use (V10). Open holds that have run out, of slots that this shard owns; those that ended first come first. $1: how many at most.
SELECT h.user_id
FROM holds h
JOIN slot_owner o ON o.slot = h.slot AND o.state = 'owned'
WHERE h.ended_by IS NULL AND h.expires_at <= now()
ORDER BY h.expires_at
LIMIT $1
