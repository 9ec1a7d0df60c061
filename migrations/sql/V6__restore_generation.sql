-- oldest-known: 5
-- Which of its own pasts a ledger goes on from. A database that was restored to an earlier moment does not know what it has
-- answered since, but Redis and the nodes may. So an operator raises the generation then (`picopay shard restored`), or when he
-- goes on without what a failover lost (`picopay shard accept-loss`), and what was kept under another one counts no more.
--
-- The number is for people and for an order. It does not tell two restorations of one backup apart: both raise the backup's number
-- by one. The id does, and so what may be replayed goes by the id.
ALTER TABLE shard_identity
    ADD COLUMN generation    bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    ADD COLUMN generation_id uuid   NOT NULL DEFAULT gen_random_uuid();

-- Who raised it, when and why. The first generation has no row.
CREATE TABLE restore_generations (
    generation  bigint      PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind        text        NOT NULL CHECK (kind IN ('restored', 'loss-accepted')),
    -- Who, as the operator's machine says, and why, in the operator's words.
    by_name     text        NOT NULL,
    reason      text        NOT NULL
);
