#!/bin/bash
# `picopay-answers PORT PATH`: code 0 if the server in this container answers 200 there. For images without curl.
set -euo pipefail
exec 3<> "/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
read -r -t 2 status <&3
# The rest too: a server that is not heard to its end logs that as an error.
cat <&3 > /dev/null
[[ $status == *' 200 '* ]]
