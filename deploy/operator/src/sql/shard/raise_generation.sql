-- One statement, and so one database transaction: nobody sees the generation without its row in the log. In a session with
-- synchronous_commit = local: a database that was just restored has no standby yet.
WITH raised AS (
    UPDATE shard_identity
    SET generation = generation + 1, generation_id = gen_random_uuid()
    RETURNING generation
)
INSERT INTO restore_generations (generation, kind, by_name, reason)
SELECT generation, $1, $2, $3 FROM raised
RETURNING generation, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
