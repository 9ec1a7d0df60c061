#!/bin/sh
# Makes what every other service reads in /run/picopay: secrets, once, and gateway.toml with the demo key, each time.
# Each file can be read by those who need it and by nobody else: its owner is the services, its group a kind of server.
# With PICOPAY_TLS, of deploy/compose/compose.tls.yaml, certificates too. `prepare.sh renew` makes them anew, by the same
# authority.
# As root, with the one right to give files away.
set -eu

services=65532 databases=65531 redis=65530 watch=65529
cd /run/picopay

# put FILE OWNER GROUP MODE < content
put() {
    umask 077
    cat > "$1.new"
    chmod "$4" "$1.new"
    chown "$2:$3" "$1.new"
    mv "$1.new" "$1"
}

# keep FILE OWNER GROUP MODE < content
keep() {
    if [ -e "$1" ]; then cat > /dev/null; else put "$@"; fi
}

# certify OWNER NAME[=HOST,…]: its key can be read by this owner alone. PostgreSQL takes no other.
certify() {
    part=${2%%=*}
    if [ "$renews" = yes ] || [ ! -e "$authority/$part.pem" ]; then
        # As long as those of `make up ARGS=--tls`.
        picopay certs issue "$authority" "$2" --days 365 --renew
    fi
    if ! cmp -s "$authority/$part.pem" "certs/$part.pem"; then
        put "certs/$part.key" "$1" "$1" 0400 < "$authority/$part.key"
        put "certs/$part.pem" "$1" "$1" 0444 < "$authority/$part.pem"
    fi
}

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

chmod 0755 .
rm -f ./*.new certs/*.new
random | keep internal $services $services 0400
random | keep picopay $services $databases 0440
random | keep redis $services $redis 0440
random | keep superuser $databases $databases 0400
replicator=$(random)
# Both or none: a password file with another password than the role's would let no standby in.
if [ ! -e replicator ]; then rm -f replicator.pgpass; fi
printf '*:*:*:replicator:%s\n' "$replicator" | keep replicator.pgpass $databases $databases 0400
printf '%s' "$replicator" | keep replicator $databases $databases 0400

if [ -n "${PICOPAY_TLS:-}" ]; then
    # A volume that only this service sees: whoever has the authority's key can pass for every part of the cluster.
    authority=/run/authority renews=no
    if [ "${1:-}" = renew ]; then renews=yes; fi
    if [ ! -e $authority/ca.pem ]; then
        rm -f $authority/ca.key
        picopay certs create $authority
    fi
    mkdir -p -m 0755 certs
    cmp -s $authority/ca.pem certs/ca.pem || put certs/ca.pem $services $services 0444 < $authority/ca.pem
    certify $services gateway=gateway,localhost,127.0.0.1
    certify $services node=shard-1-node,shard-2-node,localhost,127.0.0.1
    certify $services caller
    certify $services picopay
    certify $databases postgres=shard-1-a,shard-1-b,shard-2-a,shard-2-b
    certify $databases replicator
    certify $redis redis=redis,localhost,127.0.0.1
    certify $watch prometheus
fi

{
    cat /etc/picopay/gateway.base.toml
    if [ -n "${PICOPAY_DEMO_KEY:-}" ]; then
        digest=$(printf '%s' "$PICOPAY_DEMO_KEY" | sha256sum | cut -d ' ' -f 1)
        printf '\n[[keys]]\nname = "demo"\ndigest = "sha256:%s"\nscopes = ["admin"]\n' "$digest"
    fi
} > gateway.toml.new
chmod 0444 gateway.toml.new
mv gateway.toml.new gateway.toml
