#!/bin/sh
# Installs the Debian packages that kiln is built and tested with; then builds the given target.
#   ./setup.sh           packages only
#   ./setup.sh demo      packages, release build, the main job on local machines
#   ./setup.sh check     packages, build with sanitizers, every test
set -eu
cd "$(dirname "$0")"

packages="
  cmake ninja-build pkg-config gcc libc6-dev dpkg-dev file
  liblua5.4-dev lua-cjson-dev lua-argparse libuv1-dev libcurl4-openssl-dev libssh2-1-dev libssl-dev
  libsqlite3-dev libyaml-dev libmicrohttpd-dev libarchive-dev zlib1g-dev
  mmdebstrap debian-archive-keyring iproute2 nftables passt uidmap zstd e2fsprogs openssh-client
  python3-digitalocean python3-yaml openssh-server lua-busted lua-check clang-format git curl ca-certificates
  nghttp2-server fish tcsh zsh groff netcat-openbsd
"
missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
    missing="$missing $package"
done
if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || { echo "setup.sh: not root; install these first:$missing" >&2; exit 1; }
  apt-get update -q
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

case "${1:-}" in
  "") ;;
  demo) preset=release ;;
  check) preset=dev ;;
  *) echo "setup.sh: no target '$1': demo or check" >&2; exit 64 ;;
esac
if [ -n "${preset:-}" ]; then
  cmake --preset "$preset"
  cmake --build --preset "$preset" --target "$1"
  [ "$1" != demo ] || echo "(kiln is ./build/release/kiln)"
fi
