SELECT slot, count(*) FROM transactions
WHERE slot = ANY ($1::smallint[]) AND (id < $2 OR (id >= '80000000-0000-0000-0000-000000000000' AND id < $3))
GROUP BY slot
