-- The slots that are here or being imported, as runs of equal state and epoch: within a run, slot minus its index in the
-- order is constant.
SELECT state, min(slot) AS first, max(slot) AS last, epoch
FROM (
    SELECT state, slot, epoch, slot - row_number() OVER (PARTITION BY state, epoch ORDER BY slot) AS run
    FROM slot_owner
    WHERE state IN ('owned', 'importing')
) AS here
GROUP BY state, epoch, run
ORDER BY first
