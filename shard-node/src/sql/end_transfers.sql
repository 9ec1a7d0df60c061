-- Under the lock of their users. Counted like the balances: a transfer that stayed unfinished could be reversed after it was
-- completed.
WITH written AS (
    UPDATE transfers f
    SET state = w.state, reason = w.reason, ended_at = w.ended_at, last_error = NULL
    FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
        AS w (slot, user_id, id, state, reason, ended_at)
    CROSS JOIN LATERAL (
        SELECT ctid FROM transfers
        WHERE slot = w.slot AND user_id = w.user_id AND id = w.id AND state = 'debited'
        OFFSET 0
    ) found
    WHERE f.ctid = found.ctid
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
