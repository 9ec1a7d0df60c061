-- What the COPY statements of this session copy, which take no parameters.
SELECT set_config('picopay.slots', $1::smallint[]::text, false), set_config('picopay.bound', $2::uuid::text, false)
