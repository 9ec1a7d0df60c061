DELETE FROM users WHERE ctid = ANY (ARRAY(SELECT ctid FROM users WHERE slot = ANY ($1::smallint[]) LIMIT $2))
