-- After the users are locked, as a statement of its own, like the balances.
SELECT t.user_id, t.id, t.kind, t.amount, t.currency, t.balance_after, t.idempotency_key, t.fingerprint,
       t.charge_id, t.reference, t.metadata::text, t.refusal, t.request_id, t.remaining, t.made_by,
       t.hold_id, t.expires_at, t.available, t.hold_key, t.hold_status, t.transfer_id, t.other_user_id
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS w (slot, user_id, idempotency_key)
CROSS JOIN LATERAL (
    SELECT * FROM transactions
    WHERE slot = w.slot AND user_id = w.user_id AND idempotency_key = w.idempotency_key
    OFFSET 0
) t
