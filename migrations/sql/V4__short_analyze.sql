-- How much of its column a value's statistics are made from. With the default of 100, the automatic ANALYZE reads and sorts 30,000
-- rows: it keeps a processor busy for most of a second, once a minute while a shard fills up or is moved, and charges wait.
-- Every statement of ours says itself what is found for what, so 3,000 rows tell the planner enough. (The largest target of a
-- table's columns counts, hence all of them; it needs no lock that a charge would wait for.)
ALTER TABLE transactions
    ALTER COLUMN slot SET STATISTICS 10,
    ALTER COLUMN user_id SET STATISTICS 10,
    ALTER COLUMN id SET STATISTICS 10,
    ALTER COLUMN idempotency_key SET STATISTICS 10,
    ALTER COLUMN fingerprint SET STATISTICS 10,
    ALTER COLUMN created_at SET STATISTICS 10,
    ALTER COLUMN amount SET STATISTICS 10,
    ALTER COLUMN balance_after SET STATISTICS 10,
    ALTER COLUMN kind SET STATISTICS 10,
    ALTER COLUMN currency SET STATISTICS 10,
    ALTER COLUMN refusal SET STATISTICS 10,
    ALTER COLUMN request_id SET STATISTICS 10,
    ALTER COLUMN charge_id SET STATISTICS 10,
    ALTER COLUMN remaining SET STATISTICS 10,
    ALTER COLUMN reference SET STATISTICS 10,
    ALTER COLUMN metadata SET STATISTICS 10;
ALTER TABLE users
    ALTER COLUMN slot SET STATISTICS 10,
    ALTER COLUMN user_id SET STATISTICS 10,
    ALTER COLUMN tag SET STATISTICS 10,
    ALTER COLUMN created_at SET STATISTICS 10;
ALTER TABLE balances
    ALTER COLUMN slot SET STATISTICS 10,
    ALTER COLUMN user_id SET STATISTICS 10,
    ALTER COLUMN currency SET STATISTICS 10,
    ALTER COLUMN balance SET STATISTICS 10;
