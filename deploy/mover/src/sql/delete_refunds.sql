-- Before the charges that they name.
DELETE FROM transactions
WHERE ctid = ANY (ARRAY(SELECT ctid FROM transactions WHERE slot = ANY ($1::smallint[]) AND charge_id IS NOT NULL LIMIT $2))
