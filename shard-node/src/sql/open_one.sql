-- As `open_batch.sql`, for one user.
SELECT fenced, owner_slots, owner_states, owner_names, owner_epochs,
       locked, locked_at, balance_users, currencies, balances, last_stamps,
       held, open_holds, hold_due_at
FROM picopay_open_one_v2($1::bigint, $2::smallint, $3::bigint)
