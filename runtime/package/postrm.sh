#!/bin/sh
# Removes root's local machines when the package is purged: kiln itself is gone by then.
set -e
[ "$1" = purge ] || exit 0
site=${KILN_SITE:-/var/lib/kiln}
[ -f "$site/id" ] || exit 0
read -r tag rest <"$site/id"

for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /run/kiln/cgroup; do
  group=$hierarchy/kiln-$tag
  [ -d "$group" ] || continue
  echo 1 >"$group/cgroup.kill"
  tries=0
  while [ -d "$group" ] && [ $tries -lt 100 ]; do
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || sleep 0.1
    tries=$((tries + 1))
  done
done
for controller in memory cpu; do
  group=/sys/fs/cgroup/$controller/kiln.$tag
  [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || :
done
block=$(tr '\0' '\n' <"$site/router" | sed -n '/^block$/{n;p;}')
for net in $((block + 2)) $((block + 3)); do
  ip route del unreachable "10.199.$net.0/24" metric 4096 2>/dev/null || :
done
# The link last: with it the addresses are free for another site.
ip link del "kl-$tag" 2>/dev/null || :
rm -rf --one-file-system "$site"
[ -z "$KILN_SITE" ] || exit 0
for file in /etc/subuid /etc/subgid; do
  [ ! -f $file ] || sed -i '/^kiln-machines:/d' $file
done
