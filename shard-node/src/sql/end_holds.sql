-- Under the lock of their users. Counted like the balances: a hold that stayed open could be captured twice.
WITH written AS (
    UPDATE holds h
    SET state = w.state, captured = w.captured, ended_by = w.ended_by
    FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::text[], $5::numeric[], $6::uuid[])
        AS w (slot, user_id, id, state, captured, ended_by)
    CROSS JOIN LATERAL (
        SELECT ctid, state FROM holds
        WHERE slot = w.slot AND user_id = w.user_id AND id = w.id
        OFFSET 0
    ) found
    WHERE h.ctid = found.ctid AND found.state = 'open'
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
