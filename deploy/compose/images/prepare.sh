#!/bin/sh
# Makes what every other service reads in /run/picopay: secrets, once, and gateway.toml with the demo key, each time.
# Each file can be read by those who need it and by nobody else: its owner is the services, its group a kind of server.
# As root, with the one right to give files away.
set -eu

services=65532 databases=65531 redis=65530
cd /run/picopay

# keep FILE OWNER GROUP MODE < content
keep() {
    if [ -e "$1" ]; then
        cat > /dev/null
        return
    fi
    umask 077
    cat > "$1.new"
    chmod "$4" "$1.new"
    chown "$2:$3" "$1.new"
    mv "$1.new" "$1"
}

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

chmod 0755 .
rm -f ./*.new
random | keep internal $services $services 0400
random | keep picopay $services $databases 0440
random | keep redis $services $redis 0440
random | keep superuser $databases $databases 0400
replicator=$(random)
# Both or none: a password file with another password than the role's would let no standby in.
if [ ! -e replicator ]; then rm -f replicator.pgpass; fi
printf '*:*:*:replicator:%s\n' "$replicator" | keep replicator.pgpass $databases $databases 0400
printf '%s' "$replicator" | keep replicator $databases $databases 0400

{
    cat /etc/picopay/gateway.base.toml
    if [ -n "${PICOPAY_DEMO_KEY:-}" ]; then
        digest=$(printf '%s' "$PICOPAY_DEMO_KEY" | sha256sum | cut -d ' ' -f 1)
        printf '\n[[keys]]\nname = "demo"\ndigest = "sha256:%s"\nscopes = ["admin"]\n' "$digest"
    fi
} > gateway.toml.new
chmod 0444 gateway.toml.new
mv gateway.toml.new gateway.toml
