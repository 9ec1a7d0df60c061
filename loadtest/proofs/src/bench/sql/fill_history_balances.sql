-- What the users have after the charges that were filled in: what the ledger now says.
UPDATE balances b SET balance = s.balance
FROM (
    SELECT slot, user_id, currency, sum(CASE kind WHEN 'charge' THEN -amount ELSE amount END) AS balance
    FROM transactions
    WHERE refusal IS NULL
    GROUP BY slot, user_id, currency
) s
WHERE b.slot = s.slot AND b.user_id = s.user_id AND b.currency = s.currency AND b.balance <> s.balance
