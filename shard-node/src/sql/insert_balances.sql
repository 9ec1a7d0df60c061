-- No conflict can come: under the user's lock there was no such row.
INSERT INTO balances (slot, user_id, currency, balance)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::numeric[])
