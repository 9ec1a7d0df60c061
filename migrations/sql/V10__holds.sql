-- oldest-known: 5
-- Holds: money that is reserved for a charge to come. A hold, its capture, its void and its expiry are transactions; what became
-- of a hold is a row of its own. Programs from before this migration may go on: they write none of it, and nobody takes a hold
-- before `picopay migrate --finish` has seen that none of them is left.
--
-- Tables in the order in which batches come to them. Statistics and NOT VALID as in V4 and V7.
ALTER TABLE balances
    -- The sum of the user's open holds in this currency, and how many they are.
    ADD COLUMN held        numeric(24, 4) NOT NULL DEFAULT 0,
    ADD COLUMN open_holds  integer        NOT NULL DEFAULT 0,
    -- No open hold ends before this moment. NULL without an open hold. A batch looks for holds that have run out only if the
    -- moment is over, so whoever has no holds pays nothing for them.
    ADD COLUMN hold_due_at timestamptz,
    ALTER COLUMN held SET STATISTICS 10,
    ALTER COLUMN open_holds SET STATISTICS 10,
    ALTER COLUMN hold_due_at SET STATISTICS 10,
    ADD CONSTRAINT held_is_there CHECK (held >= 0 AND held <= balance AND held <> 'NaN') NOT VALID;

ALTER TABLE transactions
    -- An expiry was asked for by nobody.
    ALTER COLUMN idempotency_key DROP NOT NULL,
    ALTER COLUMN fingerprint DROP NOT NULL,
    -- For a capture, a void and an expiry, the hold.
    ADD COLUMN hold_id     uuid,
    -- What else the first answer to a hold or a void said, which a replay says again.
    ADD COLUMN expires_at  timestamptz,
    ADD COLUMN available   numeric(24, 4),
    ADD COLUMN hold_key    uuid,
    -- For a refused capture or void, what had become of the hold.
    ADD COLUMN hold_status text,
    ALTER COLUMN hold_id SET STATISTICS 10,
    ALTER COLUMN expires_at SET STATISTICS 10,
    ALTER COLUMN available SET STATISTICS 10,
    ALTER COLUMN hold_key SET STATISTICS 10,
    ALTER COLUMN hold_status SET STATISTICS 10,
    -- What may stand in these two is said by the program, which stops a user whose rows have another word. PostgreSQL reads the
    -- text of each constraint anew for every statement that writes, and lists of words were half of that time.
    DROP CONSTRAINT transactions_kind_check,
    DROP CONSTRAINT transactions_refusal_check,
    -- Without a key nothing happens once only. The old rows have one.
    ADD CONSTRAINT keys_of_all_but_expiries CHECK (
        (idempotency_key IS NULL) = (kind = 'expiry') AND (fingerprint IS NULL) = (idempotency_key IS NULL)
        AND (idempotency_key IS NOT NULL OR hold_id IS NOT NULL)
    ) NOT VALID;

-- What became of each hold. Its key, reference and metadata are in the transaction with its id, which never changes.
CREATE TABLE holds (
    slot        smallint       NOT NULL,
    user_id     bigint         NOT NULL,
    id          uuid           NOT NULL,
    currency    text           NOT NULL,
    amount      numeric(24, 4) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    -- Zero until the capture.
    captured    numeric(24, 4) NOT NULL DEFAULT 0,
    state       text           NOT NULL CHECK (state IN ('open', 'captured', 'voided', 'expired')),
    -- From this moment on it counts for nothing, also while its state is still 'open'.
    expires_at  timestamptz    NOT NULL,
    -- The transaction that ended it.
    ended_by    uuid,
    PRIMARY KEY (slot, user_id, id),
    FOREIGN KEY (slot, user_id, id) REFERENCES transactions (slot, user_id, id),
    CONSTRAINT capture_within_hold CHECK (captured >= 0 AND captured <= amount AND captured <> 'NaN'),
    CHECK ((state = 'captured') = (captured > 0)),
    CHECK ((state = 'open') = (ended_by IS NULL))
);
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT attname FROM pg_attribute WHERE attrelid = 'holds'::regclass AND attnum > 0 LOOP
        EXECUTE format('ALTER TABLE holds ALTER COLUMN %I SET STATISTICS 10', name);
    END LOOP;
END
$$;
-- A user's holds that have run out, and the next one that will.
CREATE INDEX open_holds_of_user ON holds (slot, user_id, expires_at) WHERE state = 'open';
-- Those that nobody has written down yet, for the sweeper. An open hold has not been ended by anything: the condition is
-- written otherwise, so that the planner cannot take this index for one user's holds, and read those of all.
CREATE INDEX open_holds_by_end ON holds (expires_at) WHERE ended_by IS NULL;

-- The one list of the tables whose rows belong to users and move with their slot. What counts rows reads this view; what copies,
-- compares and deletes them has a statement for each (`deploy/mover/src/user_tables.rs`). Tests hold both against the tables that
-- have a slot and a user.
CREATE VIEW rows_of_users AS
    SELECT 'users' AS table_name, slot, user_id FROM users
    UNION ALL SELECT 'balances', slot, user_id FROM balances
    UNION ALL SELECT 'transactions', slot, user_id FROM transactions
    UNION ALL SELECT 'refund_totals', slot, user_id FROM refund_totals
    UNION ALL SELECT 'holds', slot, user_id FROM holds;
