-- What is in transit from this shard, by currency, and since when the oldest is, by the time in its id. Reads an index of the
-- unfinished ones, and no transaction: whoever locks those would keep the gate's connection busy.
SELECT f.currency, count(*), sum(f.amount),
       greatest(
           extract(epoch FROM clock_timestamp())
               - min(('x' || left(replace(f.id::text, '-', ''), 12))::bit(48)::bigint) / 1000.0,
           0
       )::double precision
FROM transfers f
JOIN slot_owner o ON o.slot = f.slot AND o.state = 'owned'
WHERE f.ended_at IS NULL
GROUP BY f.currency
