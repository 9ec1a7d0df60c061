-- oldest-known: 5
-- The functions of V9 with what is held of each balance: NULL without an open hold. Those of V9 stay for the release before.
CREATE FUNCTION picopay_open_batch_v2(
    fence bigint, slots smallint[], user_slots smallint[], user_ids bigint[],
    OUT fenced boolean,
    OUT owner_slots smallint[], OUT owner_states text[], OUT owner_names text[], OUT owner_epochs bigint[],
    OUT locked bigint[], OUT locked_at timestamptz,
    OUT balance_users bigint[], OUT currencies text[], OUT balances numeric[], OUT last_stamps bigint[],
    OUT held numeric[], OUT open_holds integer[], OUT hold_due_at timestamptz[]
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    fenced := pg_try_advisory_xact_lock_shared(fence);
    IF NOT fenced THEN
        RETURN;
    END IF;
    SELECT array_agg(o.slot), array_agg(o.state), array_agg(o.owner), array_agg(o.epoch)
    INTO owner_slots, owner_states, owner_names, owner_epochs
    FROM slot_owner o WHERE o.slot = ANY (slots);
    -- The order of keys is the lock order of every writer, so no two batches wait for each other. NO KEY UPDATE is the
    -- weakest lock that excludes itself; the foreign keys' KEY SHARE finds it already held.
    SELECT array_agg(u.user_id)
    INTO locked
    FROM (
        SELECT * FROM unnest(user_slots, user_ids) AS w (slot, user_id)
        ORDER BY slot, user_id
    ) w
    CROSS JOIN LATERAL (
        SELECT s.user_id FROM users s
        WHERE s.slot = w.slot AND s.user_id = w.user_id
        FOR NO KEY UPDATE
    ) u;
    -- After all locks: whoever books for one of these users later reads a later time.
    locked_at := clock_timestamp();
    SELECT array_agg(b.user_id), array_agg(b.currency), array_agg(b.balance), array_agg(b.last_stamp),
           array_agg(CASE WHEN b.open_holds > 0 THEN b.held END), array_agg(b.open_holds), array_agg(b.hold_due_at)
    INTO balance_users, currencies, balances, last_stamps, held, open_holds, hold_due_at
    FROM unnest(user_slots, user_ids) AS w (slot, user_id)
    CROSS JOIN LATERAL (
        SELECT * FROM balances a
        WHERE a.slot = w.slot AND a.user_id = w.user_id
        OFFSET 0
    ) b;
END
$$;

CREATE FUNCTION picopay_open_one_v2(
    fence bigint, of_slot smallint, of_user bigint,
    OUT fenced boolean,
    OUT owner_slots smallint[], OUT owner_states text[], OUT owner_names text[], OUT owner_epochs bigint[],
    OUT locked bigint[], OUT locked_at timestamptz,
    OUT balance_users bigint[], OUT currencies text[], OUT balances numeric[], OUT last_stamps bigint[],
    OUT held numeric[], OUT open_holds integer[], OUT hold_due_at timestamptz[]
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    fenced := pg_try_advisory_xact_lock_shared(fence);
    IF NOT fenced THEN
        RETURN;
    END IF;
    SELECT ARRAY[o.slot], ARRAY[o.state], ARRAY[o.owner], ARRAY[o.epoch]
    INTO owner_slots, owner_states, owner_names, owner_epochs
    FROM slot_owner o WHERE o.slot = of_slot;
    SELECT ARRAY[s.user_id] INTO locked
    FROM users s WHERE s.slot = of_slot AND s.user_id = of_user
    FOR NO KEY UPDATE;
    locked_at := clock_timestamp();
    SELECT array_agg(b.user_id), array_agg(b.currency), array_agg(b.balance), array_agg(b.last_stamp),
           array_agg(CASE WHEN b.open_holds > 0 THEN b.held END), array_agg(b.open_holds), array_agg(b.hold_due_at)
    INTO balance_users, currencies, balances, last_stamps, held, open_holds, hold_due_at
    FROM balances b WHERE b.slot = of_slot AND b.user_id = of_user;
END
$$;
