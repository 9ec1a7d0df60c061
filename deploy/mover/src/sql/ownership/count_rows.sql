-- Rows per slot from $1 to $2, in all tables that move with one. Read off indexes where they are all-visible.
SELECT slot::integer, count(*)
FROM rows_of_users
WHERE slot BETWEEN $1 AND $2
GROUP BY slot
ORDER BY slot
