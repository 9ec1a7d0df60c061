-- Refusals have ids of their own. Each half reads a range of the primary key, and no older row.
COPY (
    SELECT slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata, made_by, hold_id, expires_at, available, hold_key,
           hold_status, transfer_id, other_user_id
    FROM transactions
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
      AND id >= current_setting('picopay.bound')::uuid AND id < '80000000-0000-0000-0000-000000000000'
    UNION ALL
    SELECT slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata, made_by, hold_id, expires_at, available, hold_key,
           hold_status, transfer_id, other_user_id
    FROM transactions
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[]) AND id >= current_setting('picopay.refusal_bound')::uuid
) TO STDOUT (FORMAT binary)
