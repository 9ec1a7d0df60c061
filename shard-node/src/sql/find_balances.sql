-- Owner, user and balances in one snapshot. A slot may come or go between two statements, and the second one would read
-- another moment than the owner. For several users at once; n: which one.
SELECT w.n, b.currency, b.balance, u.user_exists, o.state, o.owner, o.epoch
FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS w (slot, user_id, n)
LEFT JOIN LATERAL (
    SELECT state, owner, epoch FROM slot_owner WHERE slot = w.slot
    OFFSET 0
) o ON true
LEFT JOIN LATERAL (
    SELECT true AS user_exists FROM users WHERE slot = w.slot AND user_id = w.user_id
    OFFSET 0
) u ON true
LEFT JOIN LATERAL (
    SELECT currency, balance FROM balances WHERE slot = w.slot AND user_id = w.user_id
    OFFSET 0
) b ON u.user_exists
