-- As `open_batch.sql`, for one user.
SELECT fenced, owner_slots, owner_states, owner_names, owner_epochs,
       locked, locked_at, balance_users, currencies, balances, last_stamps
FROM picopay_open_one_v1($1::bigint, $2::smallint, $3::bigint)
