COPY transfer_credits (
    slot, user_id, transfer_id, from_user_id, currency, amount, transaction_id, refusal, created_at
) FROM STDIN (FORMAT binary)
