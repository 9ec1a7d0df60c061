-- In one snapshot, as for the balances. Ids rise with time, so the primary key gives the order, the page and the bounds
-- of time; it is read backwards. $5: a kind, or NULL for all. $6: rows of a page and one more. $7: rows to look at.
-- When a page is not full and more may follow, the last column is the last id that was looked at. A full page does not
-- compute it.
WITH page AS MATERIALIZED (
    SELECT * FROM (
        SELECT * FROM transactions
        WHERE slot = $1 AND user_id = $2 AND id >= $3 AND id < $4
        ORDER BY slot DESC, user_id DESC, id DESC
        LIMIT $7
    ) looked_at
    WHERE refusal IS NULL AND ($5::text IS NULL OR kind = $5)
    ORDER BY slot DESC, user_id DESC, id DESC
    LIMIT $6
)
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by,
       t.hold_id, t.expires_at, t.available, t.hold_key, t.hold_status,
       u.user_id IS NOT NULL AS user_exists, o.state, o.owner, o.epoch,
       (
           SELECT id FROM transactions
           WHERE (SELECT count(*) FROM page) < $6
             AND slot = $1 AND user_id = $2 AND id >= $3 AND id < $4
           ORDER BY slot DESC, user_id DESC, id DESC
           LIMIT 1 OFFSET $7 - 1
       ) AS looked_down_to
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
LEFT JOIN page t ON true
ORDER BY t.id DESC
