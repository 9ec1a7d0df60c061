-- Users and transactions of released slots that are about as young as the release, or younger. Every write makes one of
-- them. $1: by how many seconds clocks may differ.
SELECT slot::integer, user_id, id, created_at::text, changed_at::text,
       created_at > changed_at + make_interval(secs => $1)
FROM (
    SELECT slot, user_id, id, created_at FROM transactions
    UNION ALL
    SELECT slot, user_id, NULL, created_at FROM users
) AS written
JOIN slot_owner USING (slot)
WHERE state = 'released' AND created_at > changed_at - make_interval(secs => $1)
ORDER BY slot, user_id, id
