-- In one snapshot, as for the balances. Ids rise with time, so the primary key gives the order, the page and the bounds
-- of time; read backwards.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by,
       u.user_id IS NOT NULL AS user_exists, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
LEFT JOIN LATERAL (
    SELECT *
    FROM transactions h
    WHERE h.slot = w.slot AND h.user_id = w.user_id
      AND h.id >= $3 AND h.id < $4
      AND h.refusal IS NULL
      AND ($5::text IS NULL OR h.kind = $5)
    ORDER BY h.slot DESC, h.user_id DESC, h.id DESC
    LIMIT $6
) t ON true
ORDER BY t.id DESC
