-- No conflict can come: under the user's lock there was no such row. One that was made by hand meanwhile is a conflict, which
-- fails the statement. A row that something else keeps from being written (a trigger, a rule) fails it like an update.
WITH written AS (
    INSERT INTO balances (slot, user_id, currency, balance, last_stamp)
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::numeric[], $5::bigint[])
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
