-- A commit here waits for the standby like any charge's. A lock that is not to be had soon is tried again: who waits for the
-- fence keeps every later batch waiting too. A mover that was killed in the middle of a long statement is noticed, and its
-- locks go; so do, after 11 s, those of one whose machine or network is gone, while slots may have no owner. A new
-- shard has no statistics yet, and would read its whole tables for a few slots of them. An order is an index's, not a sort's.
-- And a statement has one processor: with its helpers it would take all that there are, and in the pause users wait for them.
SET synchronous_commit = on;
SET lock_timeout = '250ms';
SET client_connection_check_interval = '500ms';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET jit = off;
SET max_parallel_workers_per_gather = 0;
SET enable_seqscan = off;
SET enable_sort = off;
SET enable_incremental_sort = off
