#!/bin/sh
# Prints the ten slowest tests of the last `cargo nextest run`, and what all of them took together.
#
# nextest writes its report as .config/nextest.toml says, into the target folder: slowest.sh target
set -eu

report=${1:-target}/nextest/default/junit.xml
[ -f "$report" ] || exit 0

# <testcase name="…" classname="…" timestamp="…" time="1.234">, each on a line of its own.
times=$(sed -n 's/.*<testcase name="\([^"]*\)" classname="\([^"]*\)".* time="\([0-9.]*\)".*/\3 \2 \1/p' "$report")
printf 'The ten slowest tests, in seconds:\n'
printf '%s\n' "$times" | sort -rn | head -n 10 | awk '{ printf "%8.1f  %s %s\n", $1, $2, $3 }'
printf '%s\n' "$times" | awk '{ sum += $1 } END { printf "%8.1f  all %d, one after the other\n", sum, NR }'
