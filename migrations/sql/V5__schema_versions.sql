-- oldest-known: 5
-- What a program must know of the schema to serve it. A service reads this row and the history of migrations, and compares
-- both with the migrations that it was built with. One that is built before `oldest_known` would misread what stands here
-- and does not serve. Everything that was built with it, or later, may run side by side.
--
-- `picopay migrate` raises the number to the one that the migration's first line names, in the same database transaction.
CREATE TABLE schema_version (
    only_row        boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_known    integer     NOT NULL
);
INSERT INTO schema_version (oldest_known) VALUES (5);
