-- One charge, decided in one database transaction, as an application without batches would do it. The baseline calls
-- it once for each charge; the tables, constraints and indexes are the ledger's own.
CREATE FUNCTION charge_once(
    in_slot smallint, in_user bigint, in_key uuid, in_fingerprint bytea, in_amount numeric, in_currency text
) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    earlier    bytea;
    available  numeric;
BEGIN
    -- Puts the charges of one user in single file.
    PERFORM 1 FROM users WHERE slot = in_slot AND user_id = in_user FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 'user-not-found';
    END IF;

    SELECT fingerprint INTO earlier
    FROM transactions WHERE slot = in_slot AND user_id = in_user AND idempotency_key = in_key;
    IF FOUND THEN
        RETURN CASE WHEN earlier = in_fingerprint THEN 'replayed' ELSE 'idempotency-key-reused' END;
    END IF;

    SELECT balance INTO available
    FROM balances WHERE slot = in_slot AND user_id = in_user AND currency = in_currency;
    IF NOT FOUND OR available < in_amount THEN
        RETURN 'insufficient-balance';
    END IF;

    UPDATE balances SET balance = available - in_amount
    WHERE slot = in_slot AND user_id = in_user AND currency = in_currency;

    INSERT INTO transactions
        (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
    VALUES
        (in_slot, in_user, gen_random_uuid(), in_key, in_fingerprint, now(), in_amount, available - in_amount, 'charge', in_currency);
    RETURN 'completed';
END
$$
