SELECT currency, balance FROM balances WHERE slot = $1 AND user_id = $2 ORDER BY currency
