#!/bin/sh
# Starts Redis with the password of its secret. Over standard input: an argument could be read in the list of processes.
set -eu
secret=/run/picopay/redis
exec redis-server - << END
$(cat /etc/picopay/redis.conf)
requirepass $(cat "$secret")
END
