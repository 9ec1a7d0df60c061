-- Counted like the balances: a total that is not written would let a charge be refunded twice.
WITH written AS (
    INSERT INTO refund_totals (slot, user_id, charge_id, charged, refunded)
    SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::numeric[], $5::numeric[])
    ON CONFLICT (slot, user_id, charge_id) DO UPDATE SET refunded = excluded.refunded
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
