-- Every other row has its user, but for a decision about a credit to nobody.
SELECT EXISTS (SELECT FROM users WHERE slot = ANY ($1::smallint[]))
    OR EXISTS (SELECT FROM transfer_credits WHERE slot = ANY ($1::smallint[]))
