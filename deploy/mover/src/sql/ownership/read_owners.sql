-- What the shard says of every slot it has to do with. Of one that it does not own: whether rows are left. Every other
-- row has its user, and users are deleted last; only a decision about a credit may be of nobody.
SELECT slot, state, owner, epoch,
       floor(extract(epoch FROM now() - changed_at))::bigint,
       state <> 'owned' AND (
           EXISTS (SELECT FROM users WHERE users.slot = slot_owner.slot)
           -- Looked up for each slot that is asked about, and never all of them hashed.
           OR EXISTS (SELECT FROM transfer_credits WHERE transfer_credits.slot = slot_owner.slot OFFSET 0)
       )
FROM slot_owner
ORDER BY slot
