-- oldest-known: 5
-- The name of the API key whose call made the transaction. NULL for those that were made before, or by a release that does not know
-- the column yet. Nothing looks at it but those who ask who did something. 10 as for every column (V4).
ALTER TABLE transactions
    ADD COLUMN made_by text,
    ALTER COLUMN made_by SET STATISTICS 10;
