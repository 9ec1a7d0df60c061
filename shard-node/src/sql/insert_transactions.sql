INSERT INTO transactions (
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, charge_id, remaining, reference, metadata, made_by
)
SELECT
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, charge_id, remaining, reference, metadata::json, made_by
FROM unnest(
    $1::smallint[], $2::bigint[], $3::uuid[], $4::uuid[], $5::bytea[], $6::timestamptz[], $7::numeric[],
    $8::numeric[], $9::text[], $10::text[], $11::text[], $12::text[], $13::uuid[], $14::numeric[], $15::text[],
    $16::text[], $17::text[]
) AS w (
    slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
    refusal, request_id, charge_id, remaining, reference, metadata, made_by
)
