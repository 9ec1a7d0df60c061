SELECT slot, state, owner, epoch FROM slot_owner ORDER BY slot
