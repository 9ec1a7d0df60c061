-- oldest-known: 5
-- Transfers: money on its way between two users, who may be of two shards. The sender's shard has a row in `transfers`, and the
-- recipient's one in `transfer_credits`; what moves the money are transactions. Programs from before this migration may go on:
-- nobody transfers before `picopay migrate --finish` has seen that none of them is left.
--
-- Tables in the order in which batches come to them. Statistics and NOT VALID as in V4 and V7.
ALTER TABLE transactions
    -- For the steps of a transfer, the transfer and the other one of its two users.
    ADD COLUMN transfer_id   uuid,
    ADD COLUMN other_user_id bigint,
    ALTER COLUMN transfer_id SET STATISTICS 10,
    ALTER COLUMN other_user_id SET STATISTICS 10,
    DROP CONSTRAINT keys_of_all_but_expiries,
    -- Without a key nothing happens once only. An expiry ends its hold once, and the later steps of a transfer are bound to its
    -- row and to its credit. A row with a key is done after the first comparison.
    ADD CONSTRAINT keys_of_all_requests CHECK (
        (fingerprint IS NULL) = (idempotency_key IS NULL)
        AND (idempotency_key IS NOT NULL OR (kind = 'expiry' AND hold_id IS NOT NULL)
             OR (kind <> 'transfer_out' AND transfer_id IS NOT NULL))
    ) NOT VALID;

-- What became of each transfer, for its sender. Its key, reference and metadata are in the transaction with its id.
CREATE TABLE transfers (
    slot        smallint       NOT NULL,
    user_id     bigint         NOT NULL,
    id          uuid           NOT NULL,
    to_user_id  bigint         NOT NULL,
    -- The recipient's slot, so that the courier can leave those aside whose shard does not answer.
    to_slot     smallint       NOT NULL,
    currency    text           NOT NULL,
    amount      numeric(24, 4) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    state       text           NOT NULL DEFAULT 'debited' CHECK (state IN ('debited', 'completed', 'reversed')),
    -- Why it was reversed.
    reason      text           CHECK (reason IN ('user-not-found', 'balance-too-large')),
    -- When it was completed or reversed, by this database's clock; NULL while its money is in transit.
    ended_at    timestamptz,
    -- For the courier: when it looks at an unfinished one next, how often it has, and what stopped it last.
    next_try_at timestamptz    NOT NULL,
    tries       integer        NOT NULL DEFAULT 0,
    last_error  text,
    PRIMARY KEY (slot, user_id, id),
    FOREIGN KEY (slot, user_id, id) REFERENCES transactions (slot, user_id, id),
    CHECK ((state = 'debited') = (ended_at IS NULL)),
    CHECK ((state = 'reversed') = (reason IS NOT NULL))
);
-- For the courier, and for whoever adds up what is in transit.
CREATE INDEX unfinished_transfers ON transfers (next_try_at) WHERE ended_at IS NULL;
-- For the pause of a move: those that ended lately, and the unfinished ones.
CREATE INDEX transfers_by_end ON transfers (slot, ended_at);

-- What was decided about each transfer to a user of this shard; nothing in it ever changes. It has no foreign key to the users:
-- that there is no such user is a decision, too. Only a row here says that a transfer may be reversed.
CREATE TABLE transfer_credits (
    slot           smallint       NOT NULL,
    user_id        bigint         NOT NULL,
    transfer_id    uuid           NOT NULL,
    from_user_id   bigint         NOT NULL,
    currency       text           NOT NULL,
    amount         numeric(24, 4) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    -- The transaction by which the recipient has the money, or why there is none.
    transaction_id uuid,
    refusal        text           CHECK (refusal IN ('user-not-found', 'balance-too-large')),
    created_at     timestamptz    NOT NULL,
    CONSTRAINT one_credit_per_transfer PRIMARY KEY (slot, user_id, transfer_id),
    FOREIGN KEY (slot, user_id, transaction_id) REFERENCES transactions (slot, user_id, id),
    CHECK ((transaction_id IS NULL) = (refusal IS NOT NULL))
);
-- For the pause of a move.
CREATE INDEX transfer_credits_by_time ON transfer_credits (slot, created_at);

DO $$
DECLARE
    of_table regclass;
    name text;
BEGIN
    FOR of_table, name IN
        SELECT attrelid::regclass, attname FROM pg_attribute
        WHERE attrelid IN ('transfers'::regclass, 'transfer_credits'::regclass) AND attnum > 0
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 10', of_table, name);
    END LOOP;
END
$$;

-- See V10.
CREATE OR REPLACE VIEW rows_of_users AS
    SELECT 'users' AS table_name, slot, user_id FROM users
    UNION ALL SELECT 'balances', slot, user_id FROM balances
    UNION ALL SELECT 'transactions', slot, user_id FROM transactions
    UNION ALL SELECT 'refund_totals', slot, user_id FROM refund_totals
    UNION ALL SELECT 'holds', slot, user_id FROM holds
    UNION ALL SELECT 'transfers', slot, user_id FROM transfers
    UNION ALL SELECT 'transfer_credits', slot, user_id FROM transfer_credits;

-- Gives the courier of one node up to so many transfers that wait for their second step, and leases them: nobody else is given
-- them before `lease` is over. `among` and `without`: slots of recipients; NULL for all, and for none.
--
-- Like every write it takes the fence, and leaves rows of slots that are another shard's alone: a move compares them. It locks
-- the senders like a batch, so that no row moves between a batch's look at it and its write. SKIP LOCKED: it waits for nobody.
-- VOLATILE, as in V9.
CREATE FUNCTION picopay_lease_transfers_v1(
    fence bigint, most integer, lease interval, among smallint[], without smallint[]
)
RETURNS TABLE (slot smallint, user_id bigint, id uuid, tries integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(fence) THEN
        RETURN;
    END IF;
    RETURN QUERY
        UPDATE transfers t
        SET next_try_at = clock_timestamp() + lease, tries = t.tries + 1
        FROM (
            SELECT u.slot, u.user_id, u.id FROM transfers u
            JOIN users s ON s.slot = u.slot AND s.user_id = u.user_id
            WHERE u.ended_at IS NULL AND u.next_try_at <= clock_timestamp()
              AND (among IS NULL OR u.to_slot = ANY (among)) AND (without IS NULL OR u.to_slot <> ALL (without))
              AND EXISTS (SELECT FROM slot_owner o WHERE o.slot = u.slot AND o.state = 'owned')
            ORDER BY u.next_try_at
            LIMIT most
            FOR NO KEY UPDATE OF s SKIP LOCKED
            FOR UPDATE OF u SKIP LOCKED
        ) due
        WHERE t.slot = due.slot AND t.user_id = due.user_id AND t.id = due.id
        RETURNING t.slot, t.user_id, t.id, t.tries;
END
$$;

-- Writes down what stopped the courier, and when it tries again.
CREATE FUNCTION picopay_postpone_transfers_v1(
    fence bigint, slots smallint[], user_ids bigint[], ids uuid[], pauses_ms bigint[], errors text[]
)
RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(fence) THEN
        RETURN;
    END IF;
    UPDATE transfers t
    SET next_try_at = clock_timestamp() + due.pause_ms * interval '1 millisecond', last_error = due.error
    FROM (
        SELECT u.slot, u.user_id, u.id, w.pause_ms, w.error
        FROM unnest(slots, user_ids, ids, pauses_ms, errors) AS w (slot, user_id, id, pause_ms, error)
        JOIN transfers u ON u.slot = w.slot AND u.user_id = w.user_id AND u.id = w.id AND u.ended_at IS NULL
        JOIN users s ON s.slot = u.slot AND s.user_id = u.user_id
        WHERE EXISTS (SELECT FROM slot_owner o WHERE o.slot = u.slot AND o.state = 'owned')
        FOR NO KEY UPDATE OF s SKIP LOCKED
        FOR UPDATE OF u SKIP LOCKED
    ) due
    WHERE t.slot = due.slot AND t.user_id = due.user_id AND t.id = due.id;
END
$$;
