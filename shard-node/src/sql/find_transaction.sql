-- In one snapshot, as for the balances. The tag in the id leads to its user; two users of a slot may share one.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by,
       true AS user_exists, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::integer AS tag, $3::uuid AS id) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN LATERAL (
    SELECT h.*
    FROM users u
    JOIN transactions h ON h.slot = u.slot AND h.user_id = u.user_id AND h.id = w.id
    WHERE u.slot = w.slot AND u.tag = w.tag AND h.refusal IS NULL
) t ON true
