-- Every operation that a shard has on record, refusals too. An expiry has no key, and nobody asked for it. Amounts as the API writes them: all of them are in one
-- currency, of so many decimals.
SELECT user_id, id::text, coalesce(idempotency_key::text, ''), kind, round(amount, $1::integer)::text, currency,
       round(balance_after, $1::integer)::text, refusal
FROM transactions
