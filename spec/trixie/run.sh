#!/bin/sh
# Builds kiln on Debian 13 with the sanitizers and runs the C tests and the specs of what it takes
# from libraries there: libssh2 1.11, libcurl, libmicrohttpd 1.0, libuv, OpenSSL, Lua, OpenSSH 10.
#   spec/trixie/run.sh [SPEC ...]
# The system is made once by mmdebstrap and kept below build/trixie. A run unpacks it into a tmpfs of
# a mount namespace of its own, without a network: nothing is left of it, whichever way it ends.
set -eu
cd "$(dirname "$0")/../.."
work=build/trixie root=build/trixie/root
mirror=${KILN_DEBIAN_MIRROR:-http://deb.debian.org/debian}

skip() {
  echo "trixie: NOT RUN: $1" >&2
  exit 0
}

if [ "${1:-}" != --inside ]; then
  command -v mmdebstrap >/dev/null || skip "mmdebstrap is missing; apt-get install mmdebstrap"
  who=""
  [ "$(id -u)" = 0 ] || who="--map-root-user --map-auto"
  # shellcheck disable=SC2086 # a list of words
  unshare $who --mount --pid --fork true || skip "this host gives no namespaces"
  mkdir -p "$work/objects" "$root"
  exec 9>"$work/lock"
  flock -n 9 || skip "another run holds $work/lock"
  # shellcheck disable=SC2086
  exec setpriv --pdeathsig KILL unshare $who --mount --pid --fork --kill-child --mount-proc \
    sh "$0" --inside "$@"
fi
shift

trap 'exit 130' INT TERM
# What setup.sh installs, less what is for machines, clouds and the tree's own looks.
packages=$(sed -n '/^packages="/,/^"/{/"/!p}' setup.sh | tr -s ' \n' ',' | sed 's/^,//; s/,$//' |
  sed -E 's/(mmdebstrap|nftables|passt|uidmap|python3-digitalocean|clang-format),//g')
packages="$packages,python3,procps,openssl"
archive=$work/root-$(printf %s "$packages" | sha256sum | cut -c1-12).tar
mount -t tmpfs -o mode=755 tmpfs "$root"
if [ ! -e "$archive" ]; then
  echo "trixie: making Debian 13 from $mirror; this happens once"
  rm -f "$work"/root-*.tar "$work/part.tar"
  TMPDIR="$PWD/$root" mmdebstrap --mode=root --variant=apt --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' trixie "$work/part.tar" "$mirror" \
    >"$work/log" 2>&1 || {
    rm -f "$work/part.tar"
    skip "Debian 13 cannot be had from $mirror: $(grep -m 3 '^[WE]: ' "$work/log")"
  }
  mv "$work/part.tar" "$archive"
fi
tar -xf "$archive" -C "$root" --exclude='./dev/*' # those of this host, below
mkdir "$root/kiln"
tar -c --exclude=./build --exclude=./.git --exclude=.kiln . | tar -x -C "$root/kiln"
mkdir -p "$root/kiln/build/trixie"
mount --bind "$work/objects" "$root/kiln/build/trixie"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec unshare --net chroot "$root" env -i PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 \
  sh /kiln/spec/trixie/inside.sh "$@"
