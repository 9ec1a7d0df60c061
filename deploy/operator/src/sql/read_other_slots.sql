-- The slots that the shard has to do with and does not own, and whether rows of users are left of them: users are deleted
-- last. A decision about a credit to nobody alone is not told here; `picopay slots purge` and `picopay verify` find it.
SELECT slot::integer, state, owner, EXISTS (SELECT FROM users WHERE users.slot = slot_owner.slot)
FROM slot_owner
WHERE state <> 'owned'
ORDER BY slot
