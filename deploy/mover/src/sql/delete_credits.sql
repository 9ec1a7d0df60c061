DELETE FROM transfer_credits
WHERE ctid = ANY (ARRAY(SELECT ctid FROM transfer_credits WHERE slot = ANY ($1::smallint[]) LIMIT $2))
