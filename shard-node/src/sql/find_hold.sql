-- In one snapshot, as for the balances. $2: the user whom the id names. The last column is what the user can spend now.
SELECT h.user_id, h.id, CASE WHEN h.state = 'open' AND h.expires_at <= c.now THEN 'expired' ELSE h.state END AS status,
       h.amount, h.captured, h.currency, h.expires_at, t.idempotency_key, t.reference, t.metadata::text,
       true AS user_exists, o.state, o.owner, o.epoch,
       b.balance - b.held + coalesce((
           SELECT sum(d.amount) FROM holds d
           WHERE d.slot = h.slot AND d.user_id = h.user_id AND d.state = 'open' AND d.expires_at <= c.now
               AND d.currency = h.currency
       ), 0) AS available
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id, $3::uuid AS id) w
CROSS JOIN (SELECT clock_timestamp() AS now OFFSET 0) c
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN LATERAL (
    SELECT * FROM holds
    WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
    OFFSET 0
) h ON true
LEFT JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = h.slot AND user_id = h.user_id AND id = h.id
    OFFSET 0
) t ON true
LEFT JOIN LATERAL (
    SELECT * FROM balances
    WHERE slot = h.slot AND user_id = h.user_id AND currency = h.currency
    OFFSET 0
) b ON true
