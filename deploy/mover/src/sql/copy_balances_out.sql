COPY (
    SELECT slot, user_id, currency, balance, last_stamp, held, open_holds, hold_due_at FROM balances
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
) TO STDOUT (FORMAT binary)
