SELECT slot, count(*) FROM transactions WHERE slot = ANY ($1::smallint[]) AND id < $2 GROUP BY slot
