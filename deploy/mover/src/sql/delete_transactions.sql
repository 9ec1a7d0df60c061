DELETE FROM transactions WHERE ctid = ANY (ARRAY(SELECT ctid FROM transactions WHERE slot = ANY ($1::smallint[]) LIMIT $2))
