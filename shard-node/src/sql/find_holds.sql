-- In one snapshot, as for the balances. Ids rise with time, so the primary key gives the order and the page; it is read
-- backwards. $3: only holds before this one. $4: a status, or NULL for all. $5: rows of a page and one more. $6: rows to look
-- at. When a page is not full and more may follow, the last column is the last id that was looked at.
WITH looked_at AS MATERIALIZED (
    SELECT h.*, CASE WHEN h.state = 'open' AND h.expires_at <= w.now THEN 'expired' ELSE h.state END AS status
    FROM (SELECT clock_timestamp() AS now OFFSET 0) w
    CROSS JOIN (
        SELECT * FROM holds
        WHERE slot = $1 AND user_id = $2 AND id < $3
        ORDER BY slot DESC, user_id DESC, id DESC
        LIMIT $6
    ) h
), page AS MATERIALIZED (
    SELECT * FROM looked_at
    WHERE $4::text IS NULL OR status = $4
    ORDER BY id DESC
    LIMIT $5
)
SELECT h.user_id, h.id, h.status, h.amount, h.captured, h.currency, h.expires_at,
       t.idempotency_key, t.reference, t.metadata::text,
       u.user_id IS NOT NULL AS user_exists, o.state, o.owner, o.epoch,
       CASE
           WHEN (SELECT count(*) FROM page) < $5 AND (SELECT count(*) FROM looked_at) = $6
           THEN (SELECT id FROM looked_at ORDER BY id LIMIT 1)
       END AS looked_down_to
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
LEFT JOIN page h ON true
LEFT JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = h.slot AND user_id = h.user_id AND id = h.id
    OFFSET 0
) t ON true
ORDER BY h.id DESC
