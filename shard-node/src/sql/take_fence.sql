-- Shared by all writers; exclusive for a change of owner. Released at the end of the database transaction. A statement of
-- its own: read together with the owners, the old owner would be seen.
SELECT pg_advisory_xact_lock_shared($1)
