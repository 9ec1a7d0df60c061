DELETE FROM transfers WHERE ctid = ANY (ARRAY(SELECT ctid FROM transfers WHERE slot = ANY ($1::smallint[]) LIMIT $2))
