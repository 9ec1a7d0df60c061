#!/usr/bin/env bash
# Builds the programs of an earlier commit, beside those of the working tree, and prints their folder, which has the commit in the file `commit`.
# deploy/earlier.sh PROFILE [COMMIT]: without a commit the newest tag before this one, else the parent of the newest
# merge, else the commit before this one. `--which` in place of the profile only says which one that is.
#
# Git hears of nothing: the source is a copy in the target folder. It stays there, and so does what was built of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'make upgrade: %s\n' "$*" >&2; exit 1; }

profile=$1 from=${2:-}
folder=$profile
[ "$profile" = dev ] && folder=debug

command -v git > /dev/null || fail 'git is missing. Debian and Ubuntu: apt-get install git'
prefix=$(git rev-parse --show-prefix 2>&1) || fail "this is no git checkout, so it has no earlier commit: $prefix"
[ -z "$prefix" ] || fail "this is no git checkout of its own, but the folder $prefix of another one"

# A tag of this very commit is no earlier one.
[ -n "$from" ] || from=$(git for-each-ref --merged HEAD --no-contains HEAD --sort=-creatordate --count=1 \
    --format='%(refname:short)' refs/tags)
if [ -z "$from" ]; then
    newest=$(git rev-list --merges --max-count=1 HEAD)
    from="${newest:-HEAD}^"
fi
if ! commit=$(git rev-parse --verify --quiet "$from^{commit}"); then
    if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
        fail "$from is not in this clone, which is shallow: git fetch --unshallow --tags brings the rest"
    fi
    fail "$from is no commit here. FROM= takes a tag, a branch or a commit; git fetch --tags brings what others made"
fi

if [ "$profile" = --which ]; then
    printf '%s\n' "$commit"
    exit 0
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
room=$target/upgrade
source=$room/source
build=$room/build
mkdir -p "$room"

# Two at once would build what the other one unpacks.
exec 9> "$room/lock"
flock 9

if [ "$(cat "$source/.commit" 2> /dev/null)" != "$commit" ]; then
    rm -rf "$source"
    mkdir "$source"
    # Files get the time of now (-m): cargo takes a file older than what was built for one that was built.
    git archive "$commit" | tar -x -m -C "$source"
    printf '%s\n' "$commit" > "$source/.commit"
fi

# What comes from elsewhere is taken from the working tree's build, as far as it is the same: it is linked, and costs no
# room. The compiler replaces such files, and never writes into them. What cargo writes into is copied.
lend() {
    local from=$target/$folder into=$build/$folder.lent
    rm -rf "$into"
    mkdir -p "$into/deps"
    find "$from/deps" -maxdepth 1 -name 'lib*' ! -name '*picopay*' -exec ln -t "$into/deps" {} +
    for part in .fingerprint build; do
        mkdir "$into/$part"
        find "$from/$part" -mindepth 1 -maxdepth 1 ! -name 'picopay*' \
            -exec cp -a --reflink=auto -t "$into/$part" {} +
    done
    mv "$into" "$build/$folder"
}
[ -d "$build/$folder" ] || [ ! -d "$target/$folder/.fingerprint" ] || lend

# With the features of the whole workspace, as the working tree is built.
(
    cd "$source"
    unset MAKEFLAGS MAKELEVEL
    CARGO_TARGET_DIR=$build CARGO_INCREMENTAL=0 cargo build --locked --profile "$profile" --workspace \
        --bin picopay --bin picopay-node --bin picopay-gateway >&2
) || fail "$from (${commit:0:9}) cannot be built: see above"

printf '%s\n' "$commit" > "$build/$folder/commit"
printf '%s\n' "$build/$folder"
