-- Fence, owners, locks and balances, in this order, by a function that migration V12 made.
SELECT fenced, owner_slots, owner_states, owner_names, owner_epochs,
       locked, locked_at, balance_users, currencies, balances, last_stamps,
       held, open_holds, hold_due_at
FROM picopay_open_batch_v2($1::bigint, $2::smallint[], $3::smallint[], $4::bigint[])
