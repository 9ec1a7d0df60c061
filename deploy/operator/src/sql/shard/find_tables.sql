-- Tables in a database without PicoPay's schema, of whatever schema but PostgreSQL's own; NULL when there is none. Three are
-- enough to recognise them by.
--
-- A `picopay migrate` may be applying the migrations at this moment: their history is made first, on its own. The rest appears at once, and
-- to_regclass() looks no earlier than this statement's snapshot was taken: tables that the snapshot has, it knows.
SELECT string_agg(name, ', ')
FROM (
    SELECT format('%I.%I', schemaname, tablename) AS name
    FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
      AND tablename <> 'refinery_schema_history'
      AND to_regclass('shard_identity') IS NULL
    ORDER BY 1
    LIMIT 3
) AS found
