COPY refund_totals (slot, user_id, charge_id, charged, refunded) FROM STDIN (FORMAT binary)
