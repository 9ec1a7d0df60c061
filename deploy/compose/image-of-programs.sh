#!/usr/bin/env bash
# Builds the image `picopay` of programs that were built on this machine: `image-of-programs.sh FOLDER TAG`, where FOLDER
# has picopay, picopay-gateway and picopay-node. For tests, which then build nothing twice: it is the Dockerfile from its
# second FROM on. The programs must be of this Debian, or of one with an older C library.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
folder=$1 tag=$2
context=$(mktemp --directory)
trap 'rm -rf "$context"' EXIT
mkdir "$context/programs"
for program in picopay picopay-gateway picopay-node; do
    strip -o "$context/programs/$program" "$folder/$program"
done
awk '/^FROM/ { stages++ } stages > 1 { sub(/--from=build \/programs\//, "programs/"); print }' Dockerfile > "$context/Dockerfile"
DOCKER_BUILDKIT=0 docker build --quiet --tag "picopay:$tag" "$context" 2> "$context/log" || { cat "$context/log" >&2; exit 1; }
