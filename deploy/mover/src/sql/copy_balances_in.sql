COPY balances (slot, user_id, currency, balance, last_stamp, held, open_holds, hold_due_at) FROM STDIN (FORMAT binary)
