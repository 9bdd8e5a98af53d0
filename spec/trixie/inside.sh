#!/bin/sh
# The part of run.sh that runs on Debian 13, in /kiln.
set -eu
trap 'exit 130' INT TERM
cd /kiln
ip link set lo up
[ $# -gt 0 ] || set -- spec/runtime/exec_spec.lua spec/runtime/ssh*_spec.lua \
  spec/runtime/transfer*_spec.lua spec/runtime/http*_spec.lua spec/runtime/crypto_spec.lua \
  spec/runtime/timer_spec.lua spec/runtime/tcp_spec.lua spec/stdlib/ssh spec/stdlib/http*_spec.lua

cmake -G Ninja -S . -B build/trixie -DCMAKE_BUILD_TYPE=Debug -DKILN_SANITIZE=ON \
  -DKILN_WERROR=ON >build/trixie/configured
ninja -C build/trixie
ctest --test-dir build/trixie --output-on-failure
export ASAN_OPTIONS=fast_unwind_on_malloc=0 # the suppression needs whole stacks
export LSAN_OPTIONS=suppressions=/kiln/spec/support/lsan.supp:print_suppressions=0
./build/trixie/kiln lua spec/support/busted.lua "$@"

version() { dpkg-query -W -f='${source:Upstream-Version}' "$1"; }
echo "trixie: all passed on Debian $(cat /etc/debian_version) with libssh2 $(version libssh2-1-dev)," \
  "OpenSSH $(version openssh-server), OpenSSL $(version libssl-dev), libcurl" \
  "$(version libcurl4-openssl-dev), libuv $(version libuv1-dev), libmicrohttpd" \
  "$(version libmicrohttpd-dev), Lua $(version liblua5.4-dev)"
