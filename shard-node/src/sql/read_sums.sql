-- What users' transactions add up to, with the owners of their slots, in one snapshot. $1: the slots, each once. $2, $3: the
-- users' keys, in their order. $4 <= id < $5. $6: rows to look at, after which the statement stops.
-- One row for each slot that is not owned here, and one for each group of the others' transactions. Which groups count is not
-- decided here: their counts together say whether it stopped.
SELECT w.slot, o.state, o.owner, o.epoch,
       NULL::text AS currency, NULL::text AS kind, NULL::boolean AS is_completed, NULL::bigint AS count, NULL::numeric AS amount
FROM unnest($1::smallint[]) AS w (slot)
LEFT JOIN LATERAL (
    SELECT state, owner, epoch FROM slot_owner WHERE slot = w.slot
    OFFSET 0
) o ON true
WHERE o.state IS DISTINCT FROM 'owned'
UNION ALL
SELECT NULL, NULL, NULL, NULL, currency, kind, is_completed, count(*), sum(amount)
FROM (
    SELECT t.currency, t.kind, t.refusal IS NULL AS is_completed, t.amount
    FROM unnest($2::smallint[], $3::bigint[]) AS w (slot, user_id)
    CROSS JOIN LATERAL (
        SELECT FROM slot_owner WHERE slot = w.slot AND state = 'owned'
        OFFSET 0
    ) owned
    CROSS JOIN LATERAL (
        SELECT currency, kind, refusal, amount FROM transactions
        WHERE slot = w.slot AND user_id = w.user_id AND id >= $4::uuid AND id < $5::uuid
        ORDER BY slot, user_id, id
        LIMIT $6::bigint
    ) t
    LIMIT $6::bigint
) looked_at
GROUP BY currency, kind, is_completed
