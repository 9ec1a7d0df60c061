-- Rows of slots that the shard has to do with and does not own, by state and slot.
SELECT o.state, o.slot::integer, sum(counted.rows)::bigint
FROM slot_owner o
JOIN (
    SELECT slot, count(*) AS rows FROM users GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM balances GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM transactions GROUP BY slot
    UNION ALL
    SELECT slot, count(*) FROM refund_totals GROUP BY slot
) AS counted USING (slot)
WHERE o.state <> 'owned'
GROUP BY o.state, o.slot
ORDER BY o.state, o.slot
