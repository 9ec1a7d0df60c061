-- What the shard says of every slot it has to do with. Of one that it does not own: whether rows are left. Every other
-- row has its user, and users are deleted last.
SELECT slot, state, owner, epoch,
       floor(extract(epoch FROM now() - changed_at))::bigint,
       state <> 'owned' AND EXISTS (SELECT FROM users WHERE users.slot = slot_owner.slot)
FROM slot_owner
ORDER BY slot
