COPY (
    SELECT slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata, made_by
    FROM transactions
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[]) AND id >= current_setting('picopay.bound')::uuid
) TO STDOUT (FORMAT binary)
