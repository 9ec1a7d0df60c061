-- The places of those rows that are not here. $1 slots, $2 users, $3 ids of transactions, or NULL for the user alone.
SELECT w.position - 1
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) WITH ORDINALITY AS w (slot, user_id, id, position)
WHERE CASE
    WHEN w.id IS NULL THEN NOT EXISTS (SELECT FROM users u WHERE u.slot = w.slot AND u.user_id = w.user_id)
    ELSE NOT EXISTS (SELECT FROM transactions t WHERE t.slot = w.slot AND t.user_id = w.user_id AND t.id = w.id)
END
ORDER BY w.position
