-- There is no conflict: under the user's lock no such row existed. One that was made by hand meanwhile fails the
-- statement. So does a row that a trigger or a rule keeps from being written, as in an update.
WITH written AS (
    INSERT INTO balances (slot, user_id, currency, balance, last_stamp)
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::numeric[], $5::bigint[])
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
