-- What `copy_finished_holds_out.sql` copies.
SELECT slot, count(*), sum(hash_record_extended(h, 0))::text
FROM holds h
WHERE slot = ANY ($1::smallint[]) AND ended_by < $2
GROUP BY slot
