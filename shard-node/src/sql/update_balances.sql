UPDATE balances b
SET balance = w.balance
FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::numeric[]) AS w (slot, user_id, currency, balance)
WHERE b.slot = w.slot AND b.user_id = w.user_id AND b.currency = w.currency
