-- Pages of several users in one snapshot, as for the balances. n: which one. Ids rise with time, so the primary key gives
-- the order, the page and the bounds of time; it is read backwards. kind: NULL for all. rows: those of a page and one more.
-- looks: rows to look at.
-- Each page is one row with what is known of its user, and one for each transaction, so that owners are sent once. When a
-- page is not full and more may follow, looked_down_to is the last id that was looked at. A full page does not compute it.
SELECT w.n, t.*
FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[])
    WITH ORDINALITY AS w (slot, user_id, first, before, kind, rows, looks, n)
CROSS JOIN LATERAL (
    WITH page AS MATERIALIZED (
        SELECT id, kind, amount, currency, balance_after, idempotency_key, charge_id, reference,
               metadata::text AS metadata, made_by, hold_id, transfer_id, other_user_id
        FROM (
            SELECT * FROM transactions
            WHERE slot = w.slot AND user_id = w.user_id AND id >= w.first AND id < w.before
            ORDER BY slot DESC, user_id DESC, id DESC
            LIMIT w.looks
        ) looked_at
        WHERE refusal IS NULL AND (w.kind IS NULL OR kind = w.kind)
        ORDER BY id DESC
        LIMIT w.rows
    )
    SELECT NULL::uuid AS id, NULL::text AS kind, NULL::numeric AS amount, NULL::text AS currency,
           NULL::numeric AS balance_after, NULL::uuid AS idempotency_key, NULL::uuid AS charge_id, NULL::text AS reference,
           NULL::text AS metadata, NULL::text AS made_by, NULL::uuid AS hold_id, NULL::uuid AS transfer_id,
           NULL::bigint AS other_user_id,
           EXISTS (SELECT FROM users WHERE slot = w.slot AND user_id = w.user_id) AS user_exists,
           o.state, o.owner, o.epoch,
           (
               SELECT id FROM transactions
               WHERE (SELECT count(*) FROM page) < w.rows
                 AND slot = w.slot AND user_id = w.user_id AND id >= w.first AND id < w.before
               ORDER BY slot DESC, user_id DESC, id DESC
               LIMIT 1 OFFSET w.looks - 1
           ) AS looked_down_to
    FROM (SELECT) one
    LEFT JOIN slot_owner o ON o.slot = w.slot
    UNION ALL
    SELECT page.*, NULL, NULL, NULL, NULL, NULL FROM page
) t
