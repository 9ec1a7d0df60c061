DELETE FROM holds WHERE ctid = ANY (ARRAY(SELECT ctid FROM holds WHERE slot = ANY ($1::smallint[]) LIMIT $2))
