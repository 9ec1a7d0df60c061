-- In one snapshot, as for the balances. $2: the user whom the id names.
SELECT f.user_id, f.id, f.to_user_id, f.state, f.reason, f.amount, f.currency, f.ended_at,
       t.idempotency_key, t.reference, t.metadata::text, t.balance_after, t.made_by,
       true AS user_exists, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id, $3::uuid AS id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN LATERAL (
    SELECT * FROM transfers
    WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
    OFFSET 0
) f ON true
LEFT JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = f.slot AND user_id = f.user_id AND id = f.id
    OFFSET 0
) t ON true
