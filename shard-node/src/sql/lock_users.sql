-- The order of keys is the lock order of every writer, so no two batches wait for each other. NO KEY UPDATE is
-- the weakest lock that excludes itself; the foreign keys' KEY SHARE finds it already held.
-- The time is looked at once the row of the same line is locked, so the last line's is after all locks: whoever books for
-- one of these users later reads a later one.
SELECT u.user_id, clock_timestamp()
FROM (
    SELECT * FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
    ORDER BY slot, user_id
) w
CROSS JOIN LATERAL (
    SELECT user_id FROM users
    WHERE slot = w.slot AND user_id = w.user_id
    FOR NO KEY UPDATE
) u
