-- Rows of these slots may be deleted, and stay so until the end of the database transaction.
SELECT slot FROM slot_owner WHERE slot = ANY ($1::smallint[]) AND state <> 'owned' FOR UPDATE
