SELECT EXISTS (SELECT FROM users WHERE slot = ANY ($1::smallint[]))
