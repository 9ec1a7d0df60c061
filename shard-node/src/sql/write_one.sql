-- As `write_batch.sql`, for one row, and the balance of its user and currency. A change by hand is seen by its value alone.
WITH inserted AS (
    INSERT INTO transactions (
        slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency,
        refusal, request_id, charge_id, remaining, reference, metadata, made_by
    )
    VALUES (
        $1::smallint, $2::bigint, $3::uuid, $4::uuid, $5::bytea, $6::timestamptz, $7::numeric, $8::numeric, $9::text,
        $10::text, $11::text, $12::text, $13::uuid, $14::numeric, $15::text, $16::text::json, $17::text
    )
),
written AS (
    UPDATE balances SET balance = $19::numeric, last_stamp = $20::bigint
    WHERE slot = $1::smallint AND user_id = $2::bigint AND currency = $10::text AND balance = $18::numeric
    RETURNING 1
)
SELECT 1 / count(*)::integer FROM written
