-- Every row is compared with the source's before it counts, and there the foreign keys hold, all of which are within one slot.
-- To check them once more would be more than half the work of a copied row (7.6 instead of 3.0 µs). Who may not leave them
-- out checks them: GRANT SET ON PARAMETER session_replication_role, of PostgreSQL 15 and later.
BEGIN;
SELECT set_config('session_replication_role', 'replica', true)
WHERE has_parameter_privilege('session_replication_role', 'SET')
