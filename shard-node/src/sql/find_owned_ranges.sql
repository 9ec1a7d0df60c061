-- The owned slots as runs of equal epoch: within a run, slot minus its place in the order is constant.
SELECT min(slot) AS first, max(slot) AS last, epoch
FROM (
    SELECT slot, epoch, slot - row_number() OVER (PARTITION BY epoch ORDER BY slot) AS run
    FROM slot_owner
    WHERE state = 'owned'
) AS owned
GROUP BY epoch, run
ORDER BY first
