-- Rows per slot, in all tables that move with one. Read off indexes where they are all-visible.
SELECT slot::integer, sum(rows)::bigint
FROM (
    SELECT slot, count(*) AS rows FROM users GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM balances GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM transactions GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM refund_totals GROUP BY slot
) AS counted
GROUP BY slot
ORDER BY slot
