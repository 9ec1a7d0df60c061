-- As in `write_batch.sql`, for balances of which another part is held than before. A balance that is new in this batch has been
-- inserted with what it is now.
WITH written AS (
    UPDATE balances b
    SET balance = w.balance, last_stamp = w.last_stamp, held = w.held, open_holds = w.open_holds, hold_due_at = w.hold_due_at
    FROM unnest(
        $1::smallint[], $2::bigint[], $3::text[], $4::numeric[], $5::bigint[], $6::numeric[], $7::integer[],
        $8::timestamptz[], $9::numeric[]
    ) AS w (slot, user_id, currency, balance, last_stamp, held, open_holds, hold_due_at, balance_before)
    CROSS JOIN LATERAL (
        SELECT ctid FROM balances
        WHERE slot = w.slot AND user_id = w.user_id AND currency = w.currency AND balance = w.balance_before
        OFFSET 0
    ) found
    WHERE b.ctid = found.ctid
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
