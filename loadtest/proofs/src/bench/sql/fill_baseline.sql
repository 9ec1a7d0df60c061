-- As many users as the shard has, spread over the same slots, each with a balance and the top-up that it came from.
-- The slot is arithmetic here, so that pgbench can work it out (charge_once.pgbench does the same).
CREATE TEMPORARY TABLE everybody ON COMMIT DROP AS
SELECT ({first_slot} + (user_id * 2654435761 / 65536) % {slots})::smallint AS slot, user_id
FROM generate_series(1, {users}::bigint) AS user_id;

INSERT INTO users (slot, user_id, tag)
SELECT slot, user_id, (user_id % 1073741824)::integer FROM everybody;

INSERT INTO balances (slot, user_id, currency, balance)
SELECT slot, user_id, 'USD', 1000000 FROM everybody;

INSERT INTO transactions
    (slot, user_id, id, idempotency_key, fingerprint, created_at, amount, balance_after, kind, currency)
SELECT slot, user_id, gen_random_uuid(), gen_random_uuid(), uuid_send(gen_random_uuid()), now(), 1000000, 1000000, 'topup', 'USD'
FROM everybody;
