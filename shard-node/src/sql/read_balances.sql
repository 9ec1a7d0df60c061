-- After the users are locked, as a statement of its own: its snapshot sees what the last holder of the lock wrote.
SELECT b.user_id, b.currency, b.balance
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
JOIN balances b ON b.slot = w.slot AND b.user_id = w.user_id
