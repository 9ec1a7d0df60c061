-- When a transaction is deleted (the source's rows of a slot that was moved), the database looks for refunds of it. Without
-- this it would read all of the user's transactions for each one. A charge has no entry here, so charging costs nothing.
CREATE INDEX refunds_by_charge ON transactions (slot, user_id, charge_id) WHERE charge_id IS NOT NULL;
