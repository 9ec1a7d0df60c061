DELETE FROM balances WHERE ctid = ANY (ARRAY(SELECT ctid FROM balances WHERE slot = ANY ($1::smallint[]) LIMIT $2))
