-- The slots that the shard has to do with and does not own, and whether rows are left of them: every other row has its
-- user, and users are deleted last.
SELECT slot::integer, state, owner, EXISTS (SELECT FROM users WHERE users.slot = slot_owner.slot)
FROM slot_owner
WHERE state <> 'owned'
ORDER BY slot
