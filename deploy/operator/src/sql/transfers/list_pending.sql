-- The oldest of them. $1: how many.
SELECT f.id, f.user_id, f.to_user_id, f.amount, f.currency,
       to_char(t.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
       greatest(0, extract(epoch FROM clock_timestamp() - t.created_at))::bigint,
       f.tries,
       greatest(0, extract(epoch FROM f.next_try_at - clock_timestamp()))::bigint,
       f.last_error
FROM transfers f
JOIN slot_owner o ON o.slot = f.slot AND o.state = 'owned'
JOIN transactions t ON t.slot = f.slot AND t.user_id = f.user_id AND t.id = f.id
WHERE f.ended_at IS NULL
ORDER BY t.created_at, f.id
LIMIT $1
