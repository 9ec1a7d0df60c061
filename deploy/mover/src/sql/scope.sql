-- What the COPY statements of this session copy, which take no parameters: slots, the first ids of the newer transactions and
-- of the newer refusals, the time of the newer users, and that of the newer transactions, in milliseconds.
SELECT set_config('picopay.slots', $1::smallint[]::text, false), set_config('picopay.bound', $2::uuid::text, false),
       set_config('picopay.refusal_bound', $3::uuid::text, false),
       set_config('picopay.since', to_timestamp($4::bigint / 1000.0)::text, false),
       set_config('picopay.bound_time', to_timestamp($5::bigint / 1000.0)::text, false)
