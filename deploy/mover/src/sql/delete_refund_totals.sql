DELETE FROM refund_totals WHERE ctid = ANY (ARRAY(SELECT ctid FROM refund_totals WHERE slot = ANY ($1::smallint[]) LIMIT $2))
