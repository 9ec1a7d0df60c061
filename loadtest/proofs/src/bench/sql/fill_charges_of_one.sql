-- $2 charges of 0.01 of the user whose top-up has the id $1, before that top-up, in books that stay closed. An id is the
-- top-up's with another time.
WITH topup AS (
    SELECT *, (extract(epoch FROM created_at) * 1000)::bigint AS ms, replace(id::text, '-', '') AS digits
    FROM transactions WHERE id = $1::text::uuid
), charged AS (
    UPDATE balances b SET balance = b.balance - 0.01 * $2::bigint
    FROM topup t WHERE b.slot = t.slot AND b.user_id = t.user_id AND b.currency = t.currency
)
INSERT INTO transactions
    (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
SELECT slot, user_id, (lpad(to_hex(ms - n), 12, '0') || substr(digits, 13))::uuid, gen_random_uuid(),
       uuid_send(gen_random_uuid()), to_timestamp((ms - n) / 1000.0), 0.01, balance_after - 0.01 * n, 'charge', currency
FROM topup, generate_series(1, $2::bigint) n
