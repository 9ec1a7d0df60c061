-- Each transaction by itself, but for those of slots that are another shard's now (see leftovers): in a slot of the shard,
-- of a user that is there, with an id that carries the slot and the user's tag, and with values that PicoPay writes.
-- $1 and $2: the currencies in use that exist, and their decimals.
--
-- An id is a UUIDv8: bytes 6 and 7 carry the version and the slot, 8 to 11 the variant and the tag.
WITH judged AS NOT MATERIALIZED (
    SELECT t.slot, t.user_id, t.id, t.amount, t.balance_after, t.kind, t.currency, u.tag, c.decimals, bytes,
           o.slot IS NULL AS is_unowned,
           u.user_id IS NULL AS lacks_user,
           get_byte(bytes, 6) <> 128 + t.slot / 256 OR get_byte(bytes, 7) <> t.slot % 256 AS has_other_slot,
           get_byte(bytes, 8) <> 128 + u.tag / 16777216 OR get_byte(bytes, 9) <> u.tag / 65536 % 256
               OR get_byte(bytes, 10) <> u.tag / 256 % 256 OR get_byte(bytes, 11) <> u.tag % 256 AS has_other_tag,
           t.balance_after < 0 OR t.balance_after = 'NaN' AS is_negative,
           t.amount < 0 OR t.amount = 'NaN' OR (t.amount = 0 AND t.refusal IS NULL) AS is_not_positive,
           t.kind NOT IN (
               'topup', 'charge', 'refund', 'hold', 'void', 'expiry', 'transfer_out', 'transfer_in', 'transfer_back') AS is_other_kind,
           c.currency IS NULL AS is_other_currency,
           t.amount <> trunc(t.amount, c.decimals)
               OR t.balance_after <> trunc(t.balance_after, c.decimals) AS is_too_fine
    FROM transactions t
    CROSS JOIN LATERAL uuid_send(t.id) AS bytes
    LEFT JOIN users u ON u.slot = t.slot AND u.user_id = t.user_id
    LEFT JOIN slot_owner o ON o.slot = t.slot
    LEFT JOIN unnest($1::text[], $2::integer[]) AS c (currency, decimals) ON c.currency = t.currency
    WHERE o.slot IS NULL OR o.state = 'owned'
), wrong AS (
    SELECT slot, user_id, id, check_name, expected, found
    FROM judged
    CROSS JOIN LATERAL (VALUES
        (is_unowned, 'owned', 'a slot that the shard owns', 'slot ' || slot),
        (lacks_user, 'user', 'a row in users', 'no row'),
        (has_other_slot, 'slot', 'an id of version 8 that carries slot ' || slot,
         'version ' || get_byte(bytes, 6) / 16
         || ', slot ' || get_byte(bytes, 6) % 16 * 256 + get_byte(bytes, 7)),
        (has_other_tag, 'slot', 'an id that carries tag ' || tag,
         'tag ' || get_byte(bytes, 8) % 64 * 16777216 + get_byte(bytes, 9) * 65536
                 + get_byte(bytes, 10) * 256 + get_byte(bytes, 11)),
        (is_negative, 'value', 'balance_after of 0 or more', balance_after::text),
        (is_not_positive, 'value', 'an amount above 0', amount::text),
        (is_other_kind, 'value', 'a kind of operation', kind),
        (is_other_currency, 'value', 'a currency of ISO 4217', currency),
        (is_too_fine, 'value', 'at most ' || decimals || ' decimals in ' || currency,
         'amount ' || amount || ', balance_after ' || balance_after)
    ) AS reasons (is_wrong, check_name, expected, found)
    -- Nearly no row gets past the next line, so nearly none pays for the texts above.
    WHERE (is_unowned OR lacks_user OR has_other_slot OR has_other_tag OR is_negative OR is_not_positive
           OR is_other_kind OR is_other_currency OR is_too_fine)
      AND is_wrong
)
SELECT check_name, table_name, key, expected, found, wrong
FROM (
    SELECT check_name, 'transactions' AS table_name,
           json_build_object('slot', slot, 'user_id', user_id, 'id', id) AS key,
           expected, found,
           count(*) OVER (PARTITION BY check_name) AS wrong,
           row_number() OVER (PARTITION BY check_name ORDER BY slot, user_id, id) AS position
    FROM wrong
) numbered
WHERE position <= 20
ORDER BY check_name, position
