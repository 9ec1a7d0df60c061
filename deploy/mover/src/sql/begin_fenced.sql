-- Whoever holds the fence keeps every batch of the shard waiting: a mover that stands still with it (Ctrl-Z, a machine that is
-- gone) loses it. The statements under the fence come without a break, within some milliseconds.
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = '2s'
