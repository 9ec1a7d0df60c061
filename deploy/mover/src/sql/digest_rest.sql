-- Everything but the older transactions and credits, and the holds and transfers that ended before. Of each row the hash; of transactions what they come to, and of balances what they are.
SELECT 'users', slot, '', count(*), sum(hash_record_extended(u, 0))::text, 0::numeric
FROM users u
WHERE slot = ANY ($1::smallint[])
GROUP BY slot
UNION ALL
SELECT 'newer transactions', slot, currency, count(*), sum(hash_record_extended(ROW(
           slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata::text, made_by, hold_id, expires_at, available, hold_key,
           hold_status, transfer_id, other_user_id
       ), 0))::text,
       coalesce(sum(CASE WHEN kind IN ('charge', 'transfer_out') THEN -amount WHEN kind IN ('hold', 'void', 'expiry') THEN 0 ELSE amount END) FILTER (WHERE refusal IS NULL), 0)
FROM (
    SELECT * FROM transactions
    WHERE slot = ANY ($1::smallint[]) AND id >= $2 AND id < '80000000-0000-0000-0000-000000000000'
    UNION ALL
    SELECT * FROM transactions WHERE slot = ANY ($1::smallint[]) AND id >= $3
) t
GROUP BY slot, currency
UNION ALL
SELECT 'balances', slot, currency, count(*), sum(hash_record_extended(b, 0))::text, sum(balance)
FROM balances b
WHERE slot = ANY ($1::smallint[])
GROUP BY slot, currency
UNION ALL
SELECT 'refund totals', slot, '', count(*), sum(hash_record_extended(r, 0))::text, 0
FROM refund_totals r
WHERE slot = ANY ($1::smallint[])
GROUP BY slot
UNION ALL
SELECT 'open holds', slot, '', count(*), sum(hash_record_extended(h, 0))::text, 0
FROM holds h
WHERE slot = ANY ($1::smallint[]) AND state = 'open'
GROUP BY slot
UNION ALL
-- Those that ended since the finished ones were copied: each has an entry in the newer transactions, which says which it is.
SELECT 'newly finished holds', h.slot, '', count(*), sum(hash_record_extended(h, 0))::text, 0
FROM transactions t
JOIN holds h ON h.slot = t.slot AND h.user_id = t.user_id AND h.id = t.hold_id AND h.ended_by = t.id
WHERE t.slot = ANY ($1::smallint[]) AND t.id >= $2 AND t.id < '80000000-0000-0000-0000-000000000000' AND t.hold_id IS NOT NULL
GROUP BY h.slot
UNION ALL
SELECT 'newer transfers', slot, '', count(*), sum(hash_record_extended(f, 0))::text, 0
FROM (
    SELECT * FROM transfers WHERE slot = ANY ($1::smallint[]) AND ended_at >= to_timestamp($4::bigint / 1000.0)
    UNION ALL
    SELECT * FROM transfers WHERE slot = ANY ($1::smallint[]) AND ended_at IS NULL
) f
GROUP BY slot
UNION ALL
SELECT 'newer credits', slot, '', count(*), sum(hash_record_extended(c, 0))::text, 0
FROM transfer_credits c
WHERE slot = ANY ($1::smallint[]) AND created_at >= to_timestamp($4::bigint / 1000.0)
GROUP BY slot
