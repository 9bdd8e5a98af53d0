---What a local machine's boot costs, from its creation until it is ready: seconds, and CPU seconds
---of all its processes. With KILN_BENCH_ROOT, an unpacked root, `systemd-nspawn --boot` boots that
---beside it, until cloud-init has ended.
---Run as root: `build/release/kiln lua spec/bench/boot_bench.lua [ROUNDS] [FLEET] [IMAGE…]`
---(5, 20, the base of debian-13); further images are booted in turns with the first.
---Needs the Debian package systemd-container.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"
local machine_boot = require "kiln.machine_boot"
local machine_keys = require "kiln.machine_keys"
local provider = require "kiln.provider"
local scope = require "kiln.scope"
local ssh = require "kiln.ssh"

local rounds, fleet = tonumber(arg[1]) or 5, tonumber(arg[2]) or 20
local images = table.move(arg, 3, #arg, 1, {})
local driver = provider.driver "local"
local user, host = crypto.ed25519_keypair "bench", crypto.ed25519_keypair "bench"
local keys = {
  user_public = user.public, host_private = crypto.reveal(host.private), host_public = host.public,
}
local user_data = machine_keys.user_data(keys)

local function cpu_of(group)
  return tonumber(fs.read(group .. "/cpu.stat"):match("usage_usec (%d+)")) / 1e6
end

---The control group of a machine: the outermost one of its name.
local function group_of(name)
  local done = proc.run { argv = { "sh", "-c",
    "find /sys/fs/cgroup /run/kiln/cgroup -type d -name \"$0\" 2>/dev/null | head -n 1", name } }
  return assert(done.out:match("[^\n]+"), "no control group of " .. name)
end

---Boots a machine; the caller destroys it.
local function boot(name, image)
  driver:destroy_machine(name)
  local started = timer.now()
  local row = driver:create_machine {
    name = name, token = "bench-" .. name, image = image, user_data = user_data, tags = {},
  }
  local session <close> = ssh.connect {
    host = row.address, key = user.private, host_key = host.public, within = 120,
  }
  machine_boot.await({ name = name, on = { note = function(_, text) error(text) end } }, session,
    120, "done")
  return { id = row.id, seconds = timer.now() - started, cpu = cpu_of(group_of(name)) }
end

---Boots a copy-on-write view of an image's root by systemd-nspawn, until cloud-init has ended.
local function nspawn(root)
  local dir = assert(fs.temp_dir { folder = "/var/tmp" })
  local started = timer.now()
  local unified = fs.stat("/sys/fs/cgroup/cgroup.controllers")
  local group = ("/sys/fs/cgroup/%skiln-bench-nspawn"):format(unified and "" or "unified/")
  local done = proc.run { timeout = 120, argv = { "sh", "-c", [[
    set -eu
    mkdir -p "$2" "$1/up" "$1/work" "$1/root"
    mount -t overlay none -o lowerdir="$0",upperdir="$1/up",workdir="$1/work" "$1/root"
    mkdir -p "$1/root/var/lib/cloud/seed/nocloud"
    echo 'instance-id: bench' >"$1/root/var/lib/cloud/seed/nocloud/meta-data"
    echo '#cloud-config' >"$1/root/var/lib/cloud/seed/nocloud/user-data"
    (echo 0 >"$2/cgroup.procs"; exec systemd-nspawn -q --boot --register=no --keep-unit \
      --private-network --machine=kilnbench -D "$1/root" >/dev/null 2>&1 </dev/null) &
    pid=$!
    n=0
    ended() { # in the container, not in another machine of this host
      for process in $(find "$2" -name cgroup.procs -exec cat {} + 2>/dev/null); do
        [ ! -e "/proc/$process/root/run/cloud-init/result.json" ] || return 0
      done
      return 1
    }
    until ended "$@"; do n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done
    cat "$2/cpu.stat"
    echo 1 >"$2/cgroup.kill"
    wait $pid || :
    umount "$1/root"
    until [ ! -e "$2" ]; do find "$2" -depth -type d -exec rmdir {} \; 2>/dev/null || :; done
  ]], root, dir, group } }
  local seconds = timer.now() - started
  assert(fs.remove(dir, { recursive = true }))
  assert(done.code == 0, "systemd-nspawn: " .. done.err)
  return { seconds = seconds, cpu = tonumber(done.out:match("usage_usec (%d+)")) / 1e6 }
end

local function median(rows, key)
  local values = {}
  for index, row in ipairs(rows) do values[index] = row[key] end
  table.sort(values)
  return values[(#values + 1) // 2]
end

if #images == 0 then images = { driver:base_image("debian-13", print).id } end
local seen, peer = {}, {}
local root = os.getenv "KILN_BENCH_ROOT" -- an unpacked root: nspawn boots it
for index in ipairs(images) do seen[index] = {} end
for round = 1, rounds do
  for index, image in ipairs(images) do
    local one = boot(("bench-%d-%d"):format(index, round), image)
    table.insert(seen[index], one)
    driver:destroy_machine(one.id)
  end
  if root then table.insert(peer, nspawn(root)) end
end

print(("%-44s %9s %9s"):format("median of " .. rounds, "seconds", "CPU s"))
for index, image in ipairs(images) do
  print(("%-44s %9.2f %9.2f"):format("kiln, " .. image, median(seen[index], "seconds"),
    median(seen[index], "cpu")))
end
if root then
  print(("%-44s %9.2f %9.2f"):format("systemd-nspawn --boot", median(peer, "seconds"),
    median(peer, "cpu")))
end
for _, image in ipairs(images) do
  local names = {}
  for index = 1, fleet do names[index] = "bench-" .. index end
  local started = timer.now()
  local all = scope.all(names, function(name) return boot(name, image) end)
  local seconds, cpu = timer.now() - started, 0
  for _, one in ipairs(all) do cpu = cpu + one.cpu end
  print(("%-44s %9.2f %9.2f"):format(("%d at once, %s"):format(fleet, image), seconds, cpu / fleet))
  scope.all(all, function(one) driver:destroy_machine(one.id) end)
end
