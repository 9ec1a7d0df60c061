-- The order of keys is the lock order of every writer, so no two batches wait for each other. NO KEY UPDATE is
-- the weakest lock that excludes itself; the foreign keys' KEY SHARE finds it already held.
SELECT u.user_id
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
ORDER BY u.slot, u.user_id
FOR NO KEY UPDATE OF u
