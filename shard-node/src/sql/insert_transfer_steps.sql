-- As in `write_batch.sql`, for the transactions that are of a transfer.
INSERT INTO transactions (
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, reference, metadata, made_by, available, transfer_id, other_user_id
)
SELECT
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, reference, metadata::json, made_by, available, transfer_id, other_user_id
FROM unnest(
    $1::smallint[], $2::bigint[], $3::uuid[], $4::uuid[], $5::bytea[], $6::timestamptz[], $7::numeric[],
    $8::numeric[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
    $15::text[], $16::numeric[], $17::uuid[], $18::bigint[]
) AS w (
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, reference, metadata, made_by, available, transfer_id, other_user_id
)
