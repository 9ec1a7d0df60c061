-- $2 refused charges of the user whose top-up has the id $1. An id is the top-up's with another time, and a refusal's first bit.
INSERT INTO transactions
    (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal, request_id)
SELECT slot, user_id,
       (lpad(to_hex((1::bigint << 47) + ms - n), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid,
       gen_random_uuid(), uuid_send(gen_random_uuid()), to_timestamp((ms - n) / 1000.0), 1000000, balance_after, 'charge',
       currency, 'insufficient-balance', 'bench'
FROM (
    SELECT *, (extract(epoch FROM created_at) * 1000)::bigint AS ms FROM transactions WHERE id = $1::text::uuid
) topup, generate_series(1, $2::bigint) n
