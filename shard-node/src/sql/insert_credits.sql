-- There is no other check of whether the transfer was credited before, unless the constraint of this table has asked for one.
WITH written AS (
    INSERT INTO transfer_credits (
        slot, user_id, transfer_id, from_user_id, currency, amount, transaction_id, refusal, created_at
    )
    SELECT * FROM unnest(
        $1::smallint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::text[], $6::numeric[], $7::uuid[], $8::text[],
        $9::timestamptz[]
    )
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
