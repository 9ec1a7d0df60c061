-- What the COPY statements of this session copy, which take no parameters; $3 is the moment that $2 is of, in milliseconds.
SELECT set_config('picopay.slots', $1::smallint[]::text, false), set_config('picopay.bound', $2::uuid::text, false),
       set_config('picopay.since', to_timestamp($3::bigint / 1000.0)::text, false)
