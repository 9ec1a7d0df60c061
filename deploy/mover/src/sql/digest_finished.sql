-- What `copy_finished_holds_out.sql`, `copy_finished_transfers_out.sql` and `copy_older_credits_out.sql` copy.
SELECT 'finished holds', slot, count(*), sum(hash_record_extended(h, 0))::text
FROM holds h
WHERE slot = ANY ($1::smallint[]) AND ended_by < $2
GROUP BY slot
UNION ALL
SELECT 'finished transfers', slot, count(*), sum(hash_record_extended(f, 0))::text
FROM transfers f
WHERE slot = ANY ($1::smallint[]) AND ended_at < to_timestamp($3::bigint / 1000.0)
GROUP BY slot
UNION ALL
SELECT 'older credits', slot, count(*), sum(hash_record_extended(c, 0))::text
FROM transfer_credits c
WHERE slot = ANY ($1::smallint[]) AND created_at < to_timestamp($3::bigint / 1000.0)
GROUP BY slot
