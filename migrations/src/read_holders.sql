-- Who stands in the way of this session: for people, and whether it may give way only after `deadlock_timeout`. Of sessions
-- of other roles, little is shown to a role that is not in pg_monitor, so those count as such, too.
SELECT CASE WHEN pid = 0 THEN 'a prepared transaction' ELSE 'process ' || pid END
       || coalesce(' (' || nullif(concat_ws(', ', nullif(application_name, ''), nullif(backend_type, 'client backend'), usename,
              state, 'for ' || extract(epoch FROM clock_timestamp() - xact_start)::integer || ' s'), '') || ')', ''),
       backend_type IS NULL OR backend_type = 'autovacuum worker'
FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) AS blocking
LEFT JOIN pg_stat_activity USING (pid)
ORDER BY pid
