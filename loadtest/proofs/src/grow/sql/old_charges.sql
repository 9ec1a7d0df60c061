-- Charges from before the run, of users all over the shard, to be refunded and looked up: at most $1.
SELECT user_id, id::text, (amount * 100)::bigint
FROM transactions
WHERE kind = 'charge' AND refusal IS NULL
ORDER BY hashtext(id::text)
LIMIT $1
