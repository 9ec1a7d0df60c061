-- The order of keys is the lock order of every writer, so no two batches wait for each other. NO KEY UPDATE is
-- the weakest lock that excludes itself; the foreign keys' KEY SHARE finds it already held.
-- Each line reads the time after its row is locked, so the last line's time is after all locks. Whoever books for one of
-- these users later reads a later time.
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
