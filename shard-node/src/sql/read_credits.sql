-- After the users are locked, as a statement of its own, like the balances.
SELECT c.user_id, c.transfer_id, c.refusal
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, transfer_id)
CROSS JOIN LATERAL (
    SELECT * FROM transfer_credits
    WHERE slot = w.slot AND user_id = w.user_id AND transfer_id = w.transfer_id
    OFFSET 0
) c
