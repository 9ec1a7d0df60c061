-- What find_transactions.sql finds, for one id: without arrays a single lookup takes half as long.
SELECT 1::bigint AS n, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.charge_id, t.reference,
       t.metadata::text, t.made_by, t.hold_id, t.transfer_id, t.other_user_id, t.user_id, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id, $3::integer AS tag, $4::uuid AS id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT * FROM transactions
        WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
        OFFSET 0
    ) named
    UNION ALL
    SELECT h.*
    FROM (SELECT slot, user_id FROM users WHERE slot = w.slot AND tag = w.tag LIMIT 32) u
    CROSS JOIN LATERAL (
        SELECT * FROM transactions
        WHERE slot = u.slot AND user_id = u.user_id AND id = w.id
        OFFSET 0
    ) h
    LIMIT 1
) t ON t.refusal IS NULL
