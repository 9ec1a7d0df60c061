-- What was applied, and what it asks of those who serve it. Of one moment, so that no half of a migration is seen.
SELECT coalesce((SELECT array_agg(version) FROM refinery_schema_history), '{}'),
       (SELECT oldest_known FROM schema_version)
