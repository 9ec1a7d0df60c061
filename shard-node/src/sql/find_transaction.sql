-- In one snapshot, as for the balances. $2: the user whom the id names; NULL for some ids of earlier releases. For others
-- of those it is nobody or another user, and the tag in the id leads to the right one. Two users of a slot may share a tag
-- by chance. More than a few share one only if somebody made them so, and they are not looked through.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by,
       t.hold_id, t.expires_at, t.available, t.hold_key, t.hold_status,
       true AS user_exists, o.state, o.owner, o.epoch
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
