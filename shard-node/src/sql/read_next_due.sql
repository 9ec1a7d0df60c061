-- When the first of the holds ends that have not run out, of each balance of which a part is held.
SELECT b.user_id, b.currency, (
    SELECT min(expires_at) FROM holds h
    WHERE h.slot = b.slot AND h.user_id = b.user_id AND h.state = 'open' AND h.expires_at > $3 AND h.currency = b.currency
)
FROM unnest($1::smallint[], $2::bigint[]) AS w (slot, user_id)
CROSS JOIN LATERAL (
    SELECT * FROM balances
    WHERE slot = w.slot AND user_id = w.user_id AND open_holds > 0
    OFFSET 0
) b
