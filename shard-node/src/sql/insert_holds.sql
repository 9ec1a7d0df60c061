-- Counted like the balances: money that no hold reserves would be held for ever.
WITH written AS (
    INSERT INTO holds (slot, user_id, id, currency, amount, captured, state, expires_at, ended_by)
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::uuid[], $4::text[], $5::numeric[], $6::numeric[], $7::text[], $8::timestamptz[],
        $9::uuid[]
    )
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
