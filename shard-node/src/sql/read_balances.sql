-- After the users are locked, as a statement of its own: its snapshot sees what the last holder of the lock wrote.
SELECT b.user_id, b.currency, b.balance, b.last_stamp, CASE WHEN b.open_holds > 0 THEN b.held END, b.open_holds, b.hold_due_at
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
CROSS JOIN LATERAL (
    SELECT * FROM balances
    WHERE slot = w.slot AND user_id = w.user_id
    OFFSET 0
) b
