-- In one snapshot, as for the balances. n: which of those that are asked for. user_id: the user whom the id names; NULL for
-- some ids of earlier releases. For others of those it is nobody or another user, and the tag in the id leads to the right
-- one. Two users of a slot may share a tag by chance. More than a few share one only if somebody made them so, and they are
-- not looked through.
SELECT w.n, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.charge_id, t.reference,
       t.metadata::text, t.made_by, t.hold_id, t.transfer_id, t.other_user_id, t.user_id, o.state, o.owner, o.epoch
FROM unnest($1::smallint[], $2::bigint[], $3::integer[], $4::uuid[]) WITH ORDINALITY AS w (slot, user_id, tag, id, n)
LEFT JOIN LATERAL (
    SELECT state, owner, epoch FROM slot_owner WHERE slot = w.slot
    OFFSET 0
) o ON true
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
