-- The order of keys is the lock order of every writer, so no two batches wait for each other. NO KEY UPDATE is
-- the weakest lock that excludes itself; the foreign keys' KEY SHARE finds it already held.
SELECT u.user_id
FROM (
    SELECT * FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
    ORDER BY slot, user_id
) w
CROSS JOIN LATERAL (
    SELECT user_id FROM users
    WHERE slot = w.slot AND user_id = w.user_id
    FOR NO KEY UPDATE
) u
