#!/bin/sh
# Makes the secrets that the chart's values name. One that is there already is an error: nothing is overwritten.
#
#   secrets.sh NAMESPACE
#       the three that every cluster has, with random values
#   secrets.sh NAMESPACE --tls FOLDER RELEASE 'shard-1 shard-2' NODES GATEWAY
#       the four of `tls:` in the values, by an authority of their own. FOLDER keeps its key, for renewals. NODES is how
#       many processes a shard has, and GATEWAY the name by which clients call.
#
# KUBECTL and PICOPAY may name other programs than those on the path. Needs openssl.
set -eu
umask 077

if [ $# -ne 1 ] && { [ $# -ne 7 ] || [ "$2" != --tls ]; }; then
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
kubectl=${KUBECTL:-kubectl}
picopay=${PICOPAY:-picopay}
namespace=$1

create() { "$kubectl" --namespace "$namespace" create secret "$@"; }

if [ $# -eq 1 ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # From files: what stands on a command line, everybody on the machine can read.
    for name in internal postgres redis; do
        openssl rand -hex 32 | tr -d '\n' > "$work/$name"
    done
    printf 'user default off\nuser picopay on >%s ~* &* +@all\n' "$(cat "$work/redis")" > "$work/users.acl"
    printf picopay > "$work/username"
    create generic picopay-internal --from-file=internal="$work/internal"
    create generic picopay-postgres --type=kubernetes.io/basic-auth \
        --from-file=username="$work/username" --from-file=password="$work/postgres"
    create generic picopay-redis --from-file=password="$work/redis" --from-file=users.acl="$work/users.acl"
    exit
fi

folder=$3 release=$4 shards=$5 nodes=$6 gateway=$7
names=''
for shard in $shards; do
    number=0
    while [ "$number" -lt "$nodes" ]; do
        names="$names,$release-node-$shard-$number.$release-node-$shard"
        number=$((number + 1))
    done
done
"$picopay" certs create "$folder" --part node="${names#,}" --part gateway="$gateway" --part redis="$release-redis" \
    --part caller >&2
for part in gateway node caller redis; do
    create generic "picopay-$part-tls" --from-file=tls.crt="$folder/$part.pem" --from-file=tls.key="$folder/$part.key" \
        --from-file=ca.crt="$folder/ca.pem"
done
