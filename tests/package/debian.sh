#!/bin/bash
# Tests the Debian packages in a fresh root created by debootstrap: they replace the real conntrack, run, are upgraded,
# removed and purged; and lintian finds no error. Needs root; everything happens in private mount, process and network
# namespaces.
#
#   tests/package/debian.sh DIRECTORY_OF_PACKAGES CACHE_DIRECTORY
#
# `make test-package` builds the packages and runs this. The root is created once, and kept as
# CACHE_DIRECTORY/SUITE.tar.
set -euo pipefail
packages=$1 cache=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/checks.sh"

readonly SUITE=bookworm
[ "$(id -u)" = 0 ] || { echo "must be root, to make a root directory; run \`make test-package\`" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT

# Prints the mirror that this machine uses for its own packages, if it runs Debian.
mirror() {
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/^Debian \(http[^ ]*\/debian\/\?\)$/\1/p' | sort -u | head -n 1
}

# Creates a root with the packages of the real conntrack downloaded, so that nothing is fetched during the test.
make_root() {
    local root=$scratch/made mirror
    mirror=$(mirror)
    mirror=${mirror:-http://deb.debian.org/debian}
    echo "making a root of $SUITE from $mirror"
    debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >"$scratch/debootstrap.log" 2>&1 ||
        { tail -n 20 "$scratch/debootstrap.log" >&2; exit 1; }
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # The proxy of this machine for the mirror, if there is one.
    cat /etc/apt/apt.conf.d/* 2>/dev/null | grep -i '^ *acquire::http' >"$root/etc/apt/apt.conf.d/00mirror" || true
    chroot "$root" apt-get update -q
    chroot "$root" apt-get install -qy --no-install-recommends --download-only conntrack
    mkdir -p "$cache"
    tar -C "$root" --numeric-owner -cf "$cache/$SUITE.tar.new" .
    mv "$cache/$SUITE.tar.new" "$cache/$SUITE.tar"
}

# Rebuilds a package with a higher version, both its own and that of the flowgate it depends on.
higher_version() {
    local package=$1 directory=$scratch/higher
    rm -rf "$directory"
    dpkg-deb -R "$package" "$directory"
    sed -i -E "s/^(Version: .*)/\1+next/; s/(flowgate \(= [^)]*)\)/\1+next)/" "$directory/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$directory" "$scratch/root/packages/next" >/dev/null
}

# Builds a package that depends on conntrack, like others in Debian.
dependent() {
    mkdir -p "$scratch/dependent/DEBIAN"
    printf '%s\n' 'Package: needs-conntrack' 'Version: 1' 'Architecture: all' 'Maintainer: Nobody <nobody@example.org>' \
        'Depends: conntrack (>= 1:1.4.4)' 'Description: depends on conntrack' >"$scratch/dependent/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$scratch/dependent" "$scratch/root/packages" >/dev/null
}

found=("$packages"/flowgate_*.deb "$packages"/flowgate-conntrack_*.deb)
[ -f "${found[0]}" ] && [ -f "${found[1]}" ] && [ ${#found[@]} = 2 ] ||
    { echo "$packages has not one package flowgate and one flowgate-conntrack: ${found[*]}" >&2; exit 1; }
[ -f "$cache/$SUITE.tar" ] || make_root
mkdir "$scratch/root"
tar -C "$scratch/root" -xf "$cache/$SUITE.tar"
mkdir -p "$scratch/root/packages/next"
cp "${found[@]}" "$scratch/root/packages"
for package in "${found[@]}"; do higher_version "$package"; done
dependent
printf '%s\n' 'Dpkg::Use-Pty "0";' 'APT::Sandbox::User "root";' >"$scratch/root/etc/apt/apt.conf.d/00test"
cp "$here/checks.sh" "$here/inside.sh" "$scratch/root/packages"

check "lintian finds no error" lintian --allow-root --fail-on error "${found[@]}"
check "lintian finds nothing to warn of" lintian --allow-root --fail-on warning "${found[@]}"
check "in a fresh root of $SUITE" true
# Its output is the report, so it does not run within `check`.
if unshare --mount --net --pid --fork --mount-proc="$scratch/root/proc" \
    chroot "$scratch/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
    bash /packages/inside.sh; then
    check "all of that" true
else
    check "all of that" false
fi
report
