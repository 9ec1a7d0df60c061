-- A user's balances as they were before $3, the smallest id of the millisecond behind the asked one, in one snapshot with the
-- owner. $4: the smallest stamp of that millisecond. $5: NULL for all currencies. $6: the smallest id of a refusal. $7: rows to
-- look at in each direction, for all currencies together. Ids rise in the order of booking, so the last transaction before $3
-- has the balance. No index leads to a currency's last one, because it would cost every charge. So what a user seldom has is
-- found otherwise where it can be; balance is NULL when it cannot be, or there is no such balance. In this order:
--
-- - the last transaction before $3, among the nearest rows; zero when all rows before $3 were looked at;
-- - the balance of now, when it was not written since;
-- - what the first transaction from $3 on found, among the nearest rows; the balance of now when all were looked at.
SELECT b.currency, a.balance, u.user_id IS NOT NULL AS user_exists, o.state, o.owner, o.epoch
FROM (SELECT $1::smallint AS slot, $2::bigint AS user_id, $3::uuid AS after, $4::bigint AS stamp_after) w
LEFT JOIN slot_owner o ON o.slot = w.slot
LEFT JOIN users u ON u.slot = w.slot AND u.user_id = w.user_id
CROSS JOIN LATERAL (
    SELECT $7::bigint / greatest(count(*), 1) AS looks FROM balances
    WHERE slot = w.slot AND user_id = w.user_id AND ($5::text IS NULL OR currency = $5)
    OFFSET 0
) share
LEFT JOIN balances b ON b.slot = u.slot AND b.user_id = u.user_id AND ($5::text IS NULL OR b.currency = $5)
LEFT JOIN LATERAL (
    SELECT coalesce(
        (
            SELECT balance_after FROM (
                SELECT id, currency, refusal, balance_after FROM transactions
                WHERE slot = b.slot AND user_id = b.user_id AND id < w.after
                ORDER BY slot DESC, user_id DESC, id DESC
                LIMIT share.looks
            ) before
            WHERE currency = b.currency AND refusal IS NULL
            ORDER BY id DESC
            LIMIT 1
        ),
        CASE
            WHEN NOT EXISTS (
                SELECT FROM transactions
                WHERE slot = b.slot AND user_id = b.user_id AND id < w.after
                ORDER BY slot DESC, user_id DESC, id DESC
                LIMIT 1 OFFSET share.looks
            ) THEN 0
        END,
        CASE WHEN b.last_stamp > 0 AND b.last_stamp < w.stamp_after THEN b.balance END,
        (
            SELECT balance_after - CASE
                    WHEN kind IN ('topup', 'refund', 'transfer_in', 'transfer_back') THEN amount
                    WHEN kind IN ('charge', 'transfer_out') THEN -amount
                    WHEN kind IN ('hold', 'void', 'expiry') THEN 0
                END
            FROM (
                SELECT id, kind, currency, refusal, amount, balance_after FROM transactions
                WHERE slot = b.slot AND user_id = b.user_id AND id >= w.after AND id < $6::uuid
                ORDER BY slot, user_id, id
                LIMIT share.looks
            ) since
            WHERE currency = b.currency AND refusal IS NULL
            ORDER BY id
            LIMIT 1
        ),
        CASE
            WHEN NOT EXISTS (
                SELECT FROM transactions
                WHERE slot = b.slot AND user_id = b.user_id AND id >= w.after AND id < $6::uuid
                ORDER BY slot, user_id, id
                LIMIT 1 OFFSET share.looks
            ) THEN b.balance
        END
    ) AS balance
    OFFSET 0
) a ON b.currency IS NOT NULL
