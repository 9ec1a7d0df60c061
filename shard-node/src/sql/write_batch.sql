-- The rows of a batch and the balances that follow from them, as one statement.
--
-- Under the lock of their users, no balance changes before it is written. But a change by hand takes no such lock. So a
-- balance must be what the batch has read. A row that is changed right now is not found where it was. Either would be left
-- out silently, with COMMIT right behind, so the statement fails unless it wrote a balance for each (SQLSTATE 22012).
WITH inserted AS (
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
),
written AS (
    UPDATE balances b
    SET balance = w.balance, last_stamp = w.last_stamp
    FROM unnest($18::smallint[], $19::bigint[], $20::text[], $21::numeric[], $22::numeric[], $23::bigint[])
        AS w (slot, user_id, currency, balance_before, balance, last_stamp)
    CROSS JOIN LATERAL (
        SELECT ctid FROM balances
        WHERE slot = w.slot AND user_id = w.user_id AND currency = w.currency AND balance = w.balance_before
        OFFSET 0
    ) found
    WHERE b.ctid = found.ctid
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($18))::integer FROM written
