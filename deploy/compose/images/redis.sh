#!/bin/sh
# Starts Redis with the password of its secret. Over standard input: an argument could be read in the list of processes.
# With PICOPAY_TLS, of deploy/compose/compose.tls.yaml, it speaks TLS only.
set -eu
secret=/run/picopay/redis
exec redis-server - << END
$(cat /etc/picopay/redis.conf ${PICOPAY_TLS:+/etc/picopay/redis.tls.conf})
requirepass $(cat "$secret")
END
