-- Limits and plans of the database transaction under way. $1: its longest statement in milliseconds. A user's rows are read in
-- the order of the key, so that the statement can stop; a bitmap would first be made of all of them. Balances are read as a
-- whole.
SELECT set_config('statement_timeout', $1::text, true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'on', true),
       set_config('enable_hashjoin', 'on', true)
