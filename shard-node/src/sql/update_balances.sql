-- Under the lock of their users, so that no row changes before it is written. But a change by hand takes no such lock. A
-- row that it wrote meanwhile is not found where it was, and would be left out silently, with COMMIT right behind. So the
-- statement itself fails unless it wrote a row for each (SQLSTATE 22012).
WITH written AS (
    UPDATE balances b
    SET balance = w.balance, last_stamp = w.last_stamp
    FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::numeric[], $5::bigint[])
        AS w (slot, user_id, currency, balance, last_stamp)
    CROSS JOIN LATERAL (
        SELECT ctid FROM balances
        WHERE slot = w.slot AND user_id = w.user_id AND currency = w.currency
        OFFSET 0
    ) found
    WHERE b.ctid = found.ctid
    RETURNING 1
)
SELECT 1 / (count(*) = cardinality($1))::integer FROM written
