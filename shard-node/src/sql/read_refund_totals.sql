-- After the users are locked, as a statement of its own, like the balances.
SELECT r.charge_id, r.refunded
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, charge_id)
CROSS JOIN LATERAL (
    SELECT * FROM refund_totals
    WHERE slot = w.slot AND user_id = w.user_id AND charge_id = w.charge_id
    OFFSET 0
) r
