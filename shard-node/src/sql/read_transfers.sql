-- After the users are locked, as a statement of its own, like the balances. $1 to $3: by their ids; $4 to $6: by their keys.
-- What never changes of a transfer is in its transaction.
SELECT f.user_id, f.id, f.to_user_id, f.state, f.reason, f.amount, f.currency, f.ended_at,
       t.idempotency_key, t.reference, t.metadata::text, t.balance_after, t.made_by
FROM (
    SELECT n.*
    FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, id)
    CROSS JOIN LATERAL (
        SELECT * FROM transfers
        WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
        OFFSET 0
    ) n
    UNION ALL
    SELECT n.*
    FROM unnest($4::smallint[], $5::bigint[], $6::uuid[]) AS w (slot, user_id, idempotency_key)
    CROSS JOIN LATERAL (
        SELECT * FROM transactions
        WHERE slot = w.slot AND user_id = w.user_id AND idempotency_key = w.idempotency_key
        OFFSET 0
    ) k
    CROSS JOIN LATERAL (
        SELECT * FROM transfers
        WHERE slot = k.slot AND user_id = k.user_id AND id = k.id
        OFFSET 0
    ) n
) f
CROSS JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = f.slot AND user_id = f.user_id AND id = f.id
    OFFSET 0
) t
