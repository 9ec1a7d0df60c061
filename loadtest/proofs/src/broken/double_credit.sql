-- A courier that forgets to look for the credit that it already gave: a transfer is credited as often as somebody asks.
ALTER TABLE transfer_credits DROP CONSTRAINT one_credit_per_transfer
