-- Of slots that this shard owns: what is held of each currency, and by how many holds.
SELECT h.currency, count(*), sum(h.amount)
FROM holds h
JOIN slot_owner o ON o.slot = h.slot AND o.state = 'owned'
WHERE h.state = 'open'
GROUP BY h.currency
