-- oldest-known: 5
-- The stamp of the user's last transaction id when this row was last written: its milliseconds of Unix time and 16 bits of
-- sequence, as one number. The next id is above it, whatever the primary's clock says, and so above the highest of the user's
-- rows. 0 is a row that was not written since this column is there: then ids rise by the time alone. A constant default
-- rewrites no table, and 10 is the target that a short ANALYZE needs of every column (V4).
--
-- Tables in the order in which batches come to them (balances, then transactions), so that no batch and no migration wait for
-- each other.
ALTER TABLE balances
    ADD COLUMN last_stamp bigint NOT NULL DEFAULT 0,
    ALTER COLUMN last_stamp SET STATISTICS 10,
    -- `balance >= 0` lets NaN pass: PostgreSQL takes it to be larger than every number. A `numeric(24, 4)` has no infinity.
    ADD CONSTRAINT balance_is_a_number CHECK (balance <> 'NaN') NOT VALID;

-- NOT VALID holds for every row that is written from now on. To have the old ones looked at too would read the whole table
-- within the lock that this database transaction has taken, and one bad row would keep a shard from being migrated:
-- `picopay verify` finds those, and each fails for its own user alone.
ALTER TABLE transactions
    ADD CONSTRAINT amounts_are_numbers CHECK (amount <> 'NaN' AND balance_after <> 'NaN' AND remaining <> 'NaN') NOT VALID;
ALTER TABLE refund_totals
    ADD CONSTRAINT totals_are_numbers CHECK (charged <> 'NaN' AND refunded <> 'NaN') NOT VALID;

COMMENT ON TABLE heartbeat IS
    'Read and written by releases before this migration only. How far behind a replica is, is a position in the log now.';
