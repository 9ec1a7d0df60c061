-- Rows per slot from $1 to $2, in all tables that move with one. Read off indexes where they are all-visible.
SELECT slot::integer, sum(rows)::bigint
FROM (
    SELECT slot, count(*) AS rows FROM users WHERE slot BETWEEN $1 AND $2 GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM balances WHERE slot BETWEEN $1 AND $2 GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM transactions WHERE slot BETWEEN $1 AND $2 GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM refund_totals WHERE slot BETWEEN $1 AND $2 GROUP BY slot
) AS counted
GROUP BY slot
ORDER BY slot
