-- Under the lock of their users, so that no row is another one by the time that it is written.
UPDATE balances b
SET balance = w.balance
FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::numeric[]) AS w (slot, user_id, currency, balance)
CROSS JOIN LATERAL (
    SELECT ctid FROM balances
    WHERE slot = w.slot AND user_id = w.user_id AND currency = w.currency
    OFFSET 0
) found
WHERE b.ctid = found.ctid
