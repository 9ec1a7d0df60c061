-- As `lock_users.sql`, but it waits for nobody: the second column says which users are locked now.
SELECT u.user_id, l.user_id IS NOT NULL, clock_timestamp()
FROM (
    SELECT * FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
    ORDER BY slot, user_id
) w
CROSS JOIN LATERAL (
    SELECT user_id FROM users
    WHERE slot = w.slot AND user_id = w.user_id
    OFFSET 0
) u
LEFT JOIN LATERAL (
    SELECT user_id FROM users
    WHERE slot = w.slot AND user_id = w.user_id
    FOR NO KEY UPDATE SKIP LOCKED
) l ON true
