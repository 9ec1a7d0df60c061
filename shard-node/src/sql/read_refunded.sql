-- By the user whom an id names or, for ids of earlier releases, by its tag: see `find_transaction.sql`. Transactions
-- never change, so this may run before the lock.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by,
       t.hold_id, t.expires_at, t.available, t.hold_key, t.hold_status, t.transfer_id, t.other_user_id
FROM unnest($1::smallint[], $2::bigint[], $3::integer[], $4::uuid[]) AS w (slot, user_id, tag, id)
CROSS JOIN LATERAL (
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
) t
WHERE t.refusal IS NULL
