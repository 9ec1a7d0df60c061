-- After the users are locked, as a statement of its own, like the balances.
SELECT r.charge_id, r.refunded
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, charge_id)
JOIN refund_totals r ON r.slot = w.slot AND r.user_id = w.user_id AND r.charge_id = w.charge_id
