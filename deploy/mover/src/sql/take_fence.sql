-- Alone: no batch is on its way from here to the end of the database transaction.
SELECT pg_advisory_xact_lock($1)
