-- Transactions and users in owned slots, and whatever is in slots that are not owned. One statement, so one snapshot.
WITH owned AS (SELECT slot FROM slot_owner WHERE state = 'owned'),
rows (slot, what, count) AS (SELECT slot, table_name, count(*) FROM rows_of_users GROUP BY slot, table_name)
SELECT coalesce(sum(count) FILTER (WHERE what = 'transactions' AND owned.slot IS NOT NULL), 0)::bigint,
       coalesce(sum(count) FILTER (WHERE what = 'users' AND owned.slot IS NOT NULL), 0)::bigint,
       coalesce(sum(count) FILTER (WHERE owned.slot IS NULL), 0)::bigint
FROM rows LEFT JOIN owned USING (slot)
