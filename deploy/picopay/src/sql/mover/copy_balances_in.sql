COPY balances (slot, user_id, currency, balance) FROM STDIN (FORMAT binary)
