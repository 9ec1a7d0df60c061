-- The lookups of replays keep an index: without one each would read the whole table.
ALTER TABLE transactions DROP CONSTRAINT one_transaction_per_key;
CREATE INDEX transactions_by_key ON transactions (slot, idempotency_key, user_id);
