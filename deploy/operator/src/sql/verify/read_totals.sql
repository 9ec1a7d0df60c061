-- What the shard holds per currency, in ten-thousandths, which are whole numbers. Rows of unknown kind, and
-- those that hold NaN, count as zero here and as wrong elsewhere. Rows of slots that are another shard's now do not count.
SELECT currency,
       coalesce(p.completed, 0),
       coalesce(p.refused, 0),
       coalesce(b.balances, 0),
       (coalesce(p.topups, 0) * 10000)::numeric(60, 0)::text,
       (coalesce(p.charges, 0) * 10000)::numeric(60, 0)::text,
       (coalesce(p.refunds, 0) * 10000)::numeric(60, 0)::text,
       (coalesce(b.balance, 0) * 10000)::numeric(60, 0)::text,
       (coalesce(p.in_transit, 0) * 10000)::numeric(60, 0)::text
FROM (
    SELECT currency,
           count(*) FILTER (WHERE refusal IS NULL) AS completed,
           count(*) FILTER (WHERE refusal IS NOT NULL) AS refused,
           sum(amount) FILTER (WHERE is_sound AND kind = 'topup') AS topups,
           sum(amount) FILTER (WHERE is_sound AND kind = 'charge') AS charges,
           sum(amount) FILTER (WHERE is_sound AND kind = 'refund') AS refunds,
           -- What senders gave, less what recipients and senders got: transit is an account of each shard.
           sum(CASE WHEN kind = 'transfer_out' THEN amount WHEN kind IN ('transfer_in', 'transfer_back') THEN -amount END)
               FILTER (WHERE is_sound) AS in_transit
    FROM (
        SELECT currency, kind, amount, refusal, refusal IS NULL AND amount <> 'NaN' AS is_sound
        FROM transactions
        WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    ) t
    GROUP BY currency
) p
FULL JOIN (
    SELECT currency, count(*) AS balances, sum(balance) FILTER (WHERE balance <> 'NaN') AS balance
    FROM balances
    WHERE slot NOT IN (SELECT slot FROM slot_owner WHERE state <> 'owned')
    GROUP BY currency
) b USING (currency)
ORDER BY currency
