-- As in `write_batch.sql`, for the transactions that say something of a hold.
INSERT INTO transactions (
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, remaining, reference, metadata, made_by, hold_id, expires_at, available, hold_key, hold_status
)
SELECT
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, remaining, reference, metadata::json, made_by, hold_id, expires_at, available, hold_key, hold_status
FROM unnest(
    $1::smallint[], $2::bigint[], $3::uuid[], $4::uuid[], $5::bytea[], $6::timestamptz[], $7::numeric[],
    $8::numeric[], $9::text[], $10::text[], $11::text[], $12::text[], $13::numeric[], $14::text[], $15::text[],
    $16::text[], $17::uuid[], $18::timestamptz[], $19::numeric[], $20::uuid[], $21::text[]
) AS w (
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, remaining, reference, metadata, made_by, hold_id, expires_at, available, hold_key, hold_status
)
