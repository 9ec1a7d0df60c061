-- Per slot and currency: how many rows, the sum of their hashes, and what they come to for the users' balances.
SELECT 'older transactions', slot, currency, count(*), sum(hash_record_extended(ROW(
           slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency, refusal,
           request_id, charge_id, remaining, reference, metadata::text
       ), 0))::text,
       coalesce(sum(CASE kind WHEN 'charge' THEN -amount ELSE amount END) FILTER (WHERE refusal IS NULL), 0)
FROM transactions t
WHERE slot = ANY ($1::smallint[]) AND id < $2
GROUP BY slot, currency
