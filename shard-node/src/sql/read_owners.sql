-- READ COMMITTED, after the fence is held: this statement's snapshot is younger than the last change of owners.
SELECT slot, state, owner, epoch FROM slot_owner WHERE slot = ANY ($1::smallint[])
