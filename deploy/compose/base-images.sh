#!/usr/bin/env bash
# Makes the base images that the Dockerfiles name, on a machine that has a Docker engine and no registry to pull from:
# `deploy/compose/base-images.sh` makes debian:bookworm-slim, `base-images.sh rust` rust:1.95-bookworm too. Where an image
# is there already, nothing is done. Who can pull needs none of this: `docker build` pulls by itself.
#
# They have the names of the real ones, so that the same Dockerfiles are tested here that others build. debootstrap makes
# Debian from Debian's own archive; the Rust image gets the toolchain of this machine. What this machine needs to reach
# archive and crates.io, such as an authority of its own or a cargo configuration, goes into the images with it.
#
# As root, on Debian or Ubuntu. PICOPAY_DEBIAN_MIRROR chooses an archive.
set -euo pipefail

slim=debian:bookworm-slim
rust=rust:1.95-bookworm
mirror=${PICOPAY_DEBIAN_MIRROR:-http://deb.debian.org/debian}
security=${PICOPAY_DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}

who='base images'
. "$(dirname "$0")/../packages.sh"
is_there() { docker image inspect "$1" > /dev/null 2>&1; }

case ${1:-} in
    '') wanted=("$slim") ;;
    rust) wanted=("$slim" "$rust") ;;
    *) say "write no argument, or: rust"; exit 2 ;;
esac
missing=()
for image in "${wanted[@]}"; do is_there "$image" || missing+=("$image"); done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" -eq 0 ] || { say "making ${missing[*]} takes root: debootstrap makes device files"; exit 1; }
is_there "$slim" || has debootstrap || install_packages debootstrap

work=$(mktemp --directory /var/tmp/picopay-base.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

# What this machine trusts beside the usual authorities.
add_authorities() {
    local own=/usr/local/share/ca-certificates
    if compgen -G "$own/*.crt" > /dev/null; then
        install -d "$root$own"
        install -m 0644 "$own"/*.crt "$root$own/"
    fi
    chroot "$root" update-ca-certificates > "$work/log" 2>&1
}

make_slim() {
    say "making $slim of $mirror"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" > "$work/log" 2>&1 \
        || { tail -n 20 "$work/log" "$root/debootstrap/debootstrap.log" 2> /dev/null; exit 1; }
    printf 'deb %s bookworm main\ndeb %s bookworm-updates main\ndeb %s bookworm-security main\n' \
        "$mirror" "$mirror" "$security" > "$root/etc/apt/sources.list"
    # As in the real image: what an image never reads is not in it.
    printf 'path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\n' > "$root/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$root"/usr/share/{doc,man,locale}/* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    add_authorities
    tar --create --numeric-owner --directory "$root" . | docker import --change 'CMD ["bash"]' - "$slim" > /dev/null
}

make_rust() {
    local toolchain tag
    toolchain=$(rustc --print sysroot)
    tag=$(rustc --version | cut --delimiter=' ' --fields=2)
    case $tag in 1.95.*) ;; *) say "$rust needs Rust 1.95 on this machine, and there is $tag"; exit 1 ;; esac
    say "making $rust of $slim, gcc and $toolchain"
    rm -rf --one-file-system "$root"
    mkdir "$root"
    local container
    container=$(docker create "$slim")
    docker export "$container" | tar --extract --directory "$root"
    docker rm "$container" > /dev/null
    cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
    chroot "$root" sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
        --no-install-recommends gcc libc6-dev make binutils > /dev/null && rm -rf /var/lib/apt/lists/*' > "$work/log" 2>&1 \
        || { tail -n 20 "$work/log"; exit 1; }
    install -d "$root/usr/local/rust" "$root/usr/local/cargo"
    # Without the documentation, which is more than half of it.
    tar --create --directory "$toolchain" --exclude=./share . | tar --extract --directory "$root/usr/local/rust"
    local configuration="${CARGO_HOME:-$HOME/.cargo}/config.toml"
    if [ -e "$configuration" ]; then install -m 0644 "$configuration" "$root/usr/local/cargo/config.toml"; fi
    tar --create --numeric-owner --directory "$root" . | docker import --change 'CMD ["bash"]' \
        --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV CARGO_HOME=/usr/local/cargo' - "$rust" > /dev/null
}

is_there "$slim" || make_slim
for image in "${missing[@]}"; do
    if [ "$image" = "$rust" ]; then make_rust; fi
done
