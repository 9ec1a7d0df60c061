-- One charge of 0.01 for each user up to $2, its $1th, in no order of users, as a day's charges would come. Its id is a
-- UUIDv8 as PicoPay makes them: milliseconds, version and slot, variant and the user's tag, sequence, random.
--
-- The past begins a day ago: later than nothing, earlier than everything that is measured.
INSERT INTO transactions
    (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
SELECT u.slot, u.user_id,
       (lpad(to_hex(t.ms), 12, '0') || '8' || lpad(to_hex(u.slot::integer), 3, '0')
        || lpad(to_hex((2::bigint << 30) | u.tag), 8, '0') || '0000' || lpad(to_hex((random() * 65535)::integer), 4, '0'))::uuid,
       gen_random_uuid(), uuid_send(gen_random_uuid()), to_timestamp(t.ms / 1000.0), 0.01, b.balance - 0.01 * $1::bigint, 'charge', 'USD'
FROM users u
JOIN balances b ON b.slot = u.slot AND b.user_id = u.user_id AND b.currency = 'USD'
CROSS JOIN LATERAL (
    SELECT (extract(epoch FROM date_trunc('day', now()) - interval '1 day') * 1000)::bigint
           + $1::bigint * 1000 + u.user_id % 1000 AS ms
) t
WHERE u.user_id <= $2
ORDER BY hashint8extended(u.user_id, $1::bigint)
