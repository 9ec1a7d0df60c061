-- At the end of the transaction, because it writes the balance after the hold. No more than there is, or the constraint on
-- balances would keep the promise.
CREATE FUNCTION forget_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE balances SET held = least(held + OLD.amount, balance)
    WHERE slot = OLD.slot AND user_id = OLD.user_id AND currency = OLD.currency;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER forget_release AFTER UPDATE ON holds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.state = 'open' AND NEW.state = 'voided') EXECUTE FUNCTION forget_release();
