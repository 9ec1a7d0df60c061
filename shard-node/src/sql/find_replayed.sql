-- The timeline is the one that the replica receives. Replay may still be on the previous one. Then it has not passed the
-- point where they part, and every position of the new timeline is beyond that. The role needs pg_monitor, or it sees no
-- timeline.
SELECT (SELECT received_tli FROM pg_stat_wal_receiver) AS timeline, pg_last_wal_replay_lsn() AS lsn
