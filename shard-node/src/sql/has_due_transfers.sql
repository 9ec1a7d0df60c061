-- Whether a transfer of this shard waits for a courier.
SELECT EXISTS (SELECT FROM transfers WHERE ended_at IS NULL AND next_try_at <= clock_timestamp())
