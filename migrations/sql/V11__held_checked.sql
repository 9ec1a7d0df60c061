-- oldest-known: 5
-- The rows from before V10 hold nothing. This looks at them without keeping anybody from writing.
ALTER TABLE balances VALIDATE CONSTRAINT held_is_there;
