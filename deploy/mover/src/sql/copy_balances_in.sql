COPY balances (slot, user_id, currency, balance, last_stamp) FROM STDIN (FORMAT binary)
