-- Nothing in a credit ever changes.
COPY (
    SELECT slot, user_id, transfer_id, from_user_id, currency, amount, transaction_id, refusal, created_at
    FROM transfer_credits
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
      AND created_at < current_setting('picopay.bound_time')::timestamptz
    ORDER BY slot, created_at
) TO STDOUT (FORMAT binary)
