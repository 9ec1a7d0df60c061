COPY transactions (
           slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata, made_by, hold_id, expires_at, available, hold_key,
           hold_status, transfer_id, other_user_id
) FROM STDIN (FORMAT binary)
