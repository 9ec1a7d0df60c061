-- Of transfers and credits, which can come late without a transaction that does. Holds cannot.
SELECT 'finished transfers', slot, count(*) FROM transfers
WHERE slot = ANY ($1::smallint[]) AND ended_at < to_timestamp($2::bigint / 1000.0)
GROUP BY slot
UNION ALL
SELECT 'older credits', slot, count(*) FROM transfer_credits
WHERE slot = ANY ($1::smallint[]) AND created_at < to_timestamp($2::bigint / 1000.0)
GROUP BY slot
