-- Transactions that say another time than that of their booking. The one kind is still to come, with a minute for the test's
-- own doings. The other is out of order: the ids of a user rise, so by id each balance is the one before it and what was
-- booked. Gives how many there are, and one of them.
WITH by_id AS (
    SELECT id, created_at, balance_after,
           lag(balance_after, 1, 0) OVER (PARTITION BY slot, user_id, currency ORDER BY id)
           + CASE WHEN kind IN ('charge', 'transfer_out') THEN -amount WHEN kind IN ('hold', 'void', 'expiry') THEN 0 ELSE amount END AS expected
    FROM transactions
    WHERE refusal IS NULL
)
SELECT count(*), min(id::text)
FROM by_id
WHERE created_at > clock_timestamp() + interval '1 minute' OR balance_after <> expected
