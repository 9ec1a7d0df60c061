-- Counted like the balances: money without a transfer would be in transit for ever. $11: for how long the courier leaves a new one
-- to whoever has asked for it.
WITH written AS (
    INSERT INTO transfers (slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, next_try_at)
    SELECT slot, user_id, id, to_user_id, to_slot, currency, amount, state, reason, ended_at, clock_timestamp() + $11::text::interval
    FROM unnest(
        $1::smallint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::text[], $6::numeric[], $7::text[], $8::text[],
        $9::timestamptz[], $10::smallint[]
    ) AS w (slot, user_id, id, to_user_id, currency, amount, state, reason, ended_at, to_slot)
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
