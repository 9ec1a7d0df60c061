-- In the order of the primary key, so that what is put in next goes to pages of the target's indexes that are at hand.
-- `tally.rs` counts on the order of the columns.
COPY (
    SELECT slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata, made_by, hold_id, expires_at, available, hold_key,
           hold_status, transfer_id, other_user_id
    FROM transactions
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
      AND (id < current_setting('picopay.bound')::uuid
           OR (id >= '80000000-0000-0000-0000-000000000000' AND id < current_setting('picopay.refusal_bound')::uuid))
    ORDER BY slot, user_id, id
) TO STDOUT (FORMAT binary)
