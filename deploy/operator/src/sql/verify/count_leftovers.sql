-- Rows of slots that the shard has to do with and does not own, by state and slot.
SELECT o.state, o.slot::integer, count(*)
FROM slot_owner o
JOIN rows_of_users r USING (slot)
WHERE o.state <> 'owned'
GROUP BY o.state, o.slot
ORDER BY o.state, o.slot
