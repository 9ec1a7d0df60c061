COPY (
    SELECT slot, user_id, charge_id, charged, refunded FROM refund_totals
    WHERE slot = ANY (current_setting('picopay.slots')::smallint[])
) TO STDOUT (FORMAT binary)
