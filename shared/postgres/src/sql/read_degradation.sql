-- In a database transaction that holds the fence, it stays true until its COMMIT: the row is removed under the fence,
-- exclusively.
SELECT to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), degraded_by, reason FROM degradation
