-- The schema of one shard. Shards share nothing: each database holds all of this for its own slots.
--
-- `slot` leads the key of every user-owned table, so that a slot can be copied, counted, verified and
-- deleted as one range of each table.

-- Which shard this database is. Services compare it with their configuration and refuse to serve on a
-- mismatch, which catches swapped connection strings before they cost money. Written once, by `picopay init`.
CREATE TABLE shard_identity (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    cluster_id  uuid        NOT NULL,
    shard_name  text        NOT NULL,
    slot_count  integer     NOT NULL,
    slot_hash   text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- The fence: which slots this shard may write. Every write reads it inside its database transaction, after
-- taking the shared advisory lock; whoever changes a row takes the same lock exclusively. A slot without a
-- row was never here. The epoch grows each time a slot changes hands.
CREATE TABLE slot_owner (
    slot        smallint    PRIMARY KEY CHECK (slot BETWEEN 0 AND 4095),
    state       text        NOT NULL CHECK (state IN ('owned', 'importing', 'released', 'aborted')),
    -- The shard that owns the slot as far as this shard knows: itself when 'owned'.
    owner       text        NOT NULL,
    epoch       bigint      NOT NULL CHECK (epoch > 0),
    changed_at  timestamptz NOT NULL DEFAULT now()
);

-- Who can have balances. Locking a user's row is what puts the operations of one user in single file.
CREATE TABLE users (
    slot        smallint    NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    user_id     bigint      NOT NULL CHECK (user_id > 0),
    -- Thirty more bits of the user's hash. A transaction id carries them, and they lead back to the user.
    tag         integer     NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (slot, user_id)
);
-- Finds the user of a transaction id. It costs a little when a user is made, and spares the transactions,
-- of which there are many more, a third index (about 15 % of the write rate).
CREATE INDEX users_by_tag ON users (slot, tag);

-- What each user has now, per currency: always the sum of the postings below. The room that is left on each
-- page keeps updates on the page (HOT), so that no index grows with them.
CREATE TABLE balances (
    slot        smallint       NOT NULL,
    user_id     bigint         NOT NULL,
    currency    text           NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    balance     numeric(24, 4) NOT NULL CHECK (balance >= 0),
    PRIMARY KEY (slot, user_id, currency),
    FOREIGN KEY (slot, user_id) REFERENCES users
) WITH (fillfactor = 70);

-- The immutable record of every operation that was decided, booked ('completed') or said no to ('refused').
-- Only completed ones move money: a posting between the user's balance and the counter-account of its kind
-- (top-up: cash; charge and refund: revenue). Refused ones are kept so that their answer can be replayed.
--
-- Two indexes, no more: the primary key, by which a user's history is read in order of time (ids rise with
-- time), and the key that makes an operation happen once. The user comes last in that one, so that it is no good
-- for a user's rows: with the user in front, the planner takes a transaction by its id to be as near in either
-- index, takes the wrong one, and reads the user's whole history for each refund and lookup.
CREATE TABLE transactions (
    slot            smallint       NOT NULL,
    user_id         bigint         NOT NULL,
    id              uuid           NOT NULL,
    idempotency_key uuid           NOT NULL,
    fingerprint     bytea          NOT NULL CHECK (octet_length(fingerprint) = 16),
    created_at      timestamptz    NOT NULL,
    amount          numeric(24, 4) NOT NULL,
    balance_after   numeric(24, 4) NOT NULL CHECK (balance_after >= 0),
    kind            text           NOT NULL CHECK (kind IN ('topup', 'charge', 'refund')),
    currency        text           NOT NULL,
    -- The rule that said no; NULL for a completed transaction.
    refusal         text           CHECK (refusal IN ('insufficient-balance', 'refund-exceeds-charge', 'not-refundable')),
    -- The request that was refused first: its answer, which names it, is replayed to the letter.
    request_id      text,
    -- For a refund, the charge; and of a refused one, what could still be refunded.
    charge_id       uuid,
    remaining       numeric(24, 4) CHECK (remaining >= 0),
    reference       text,
    -- Not jsonb: a replay gives back the very text of the first answer.
    metadata        json,
    PRIMARY KEY (slot, user_id, id),
    CONSTRAINT one_transaction_per_key UNIQUE (slot, idempotency_key, user_id),
    FOREIGN KEY (slot, user_id) REFERENCES users,
    FOREIGN KEY (slot, user_id, charge_id) REFERENCES transactions (slot, user_id, id),
    CHECK (amount > 0 OR (amount = 0 AND refusal IS NOT NULL)),
    CHECK ((kind = 'refund') = (charge_id IS NOT NULL)),
    CHECK ((refusal IS NULL) = (request_id IS NULL))
);

-- How much of each refunded charge was given back, so that the bound stands in the database and not only in
-- the program. A charge that was never refunded has no row: charging costs nothing here.
CREATE TABLE refund_totals (
    slot            smallint       NOT NULL,
    user_id         bigint         NOT NULL,
    charge_id       uuid           NOT NULL,
    charged         numeric(24, 4) NOT NULL,
    refunded        numeric(24, 4) NOT NULL CHECK (refunded > 0),
    PRIMARY KEY (slot, user_id, charge_id),
    FOREIGN KEY (slot, user_id, charge_id) REFERENCES transactions (slot, user_id, id),
    CONSTRAINT refunds_within_charge CHECK (refunded <= charged)
);

-- Written every half second by the shard's nodes and read back from the replicas: how far behind they are.
-- `now() - pg_last_xact_replay_timestamp()` would not do: it grows while nobody writes.
CREATE TABLE heartbeat (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    beat_at     timestamptz NOT NULL
);
