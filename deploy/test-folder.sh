#!/usr/bin/env bash
# Prints the folder for the servers of the tests. They make and remove thousands of small files: in memory that takes less
# than half of the processor time. (ext4 without a journal looks again at each inode that was removed in the last minutes.)
# With less than 12 GiB of memory to spare, or 8 in that folder, it is the usual one.
set -euo pipefail
shared=/dev/shm
usual="${TMPDIR:-/tmp}"
free_kib() { df --output=avail -k "$1" | tail -n 1; }
memory_kib=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
if [ -w "$shared" ] && [ "$(stat --file-system --format=%T "$shared")" = tmpfs ] &&
    [ "$(free_kib "$shared")" -ge $((8 << 20)) ] && [ "$memory_kib" -ge $((12 << 20)) ]; then
    echo "$shared"
else
    echo "$usual"
fi
