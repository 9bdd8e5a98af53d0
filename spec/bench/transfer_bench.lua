---How fast files travel, beside scp and rsync, to an sshd on loopback with its default settings.
---Run: `build/release/kiln lua spec/bench/transfer_bench.lua [MEGABYTES] [FILES] [TIMES] [PLACE]
---[GROUP…]`; PLACE is a folder for both sides, "/dev/shm" to leave the disk out of it; groups are
---file, tree, trips, memory, commands.
local fs = require "rt.fs"
local proc = require "rt.proc"
local delay_proxy = require "spec.support.delay_proxy"
local sshd = require "spec.support.sshd"

local megabytes, files = tonumber(arg[1]) or 1024, tonumber(arg[2]) or 5000
local times, place = tonumber(arg[3]) or 3, arg[4] or "/tmp"
local wanted = { table.unpack(arg, 5) }
local build = proc.info().exe:match("^(.*)/")

local server <close> = sshd.start()
local host = server.user .. "@" .. server.host
local dir = sshd.output("mktemp -d " .. sshd.quote(place) .. "/kiln-bench.XXXXXX")
local _ <close> = setmetatable({}, { __close = function()
  assert(fs.remove(dir, { recursive = true }))
end })
assert(fs.write(dir .. "/key", sshd.read(server.dir .. "/user"), { mode = "0600" }))
assert(fs.write(dir .. "/host_key", server.host_key))
assert(fs.write(dir .. "/known", ("%s %s\n"):format(server.host, server.host_key)))

local function ssh(port)
  return ("-o BatchMode=yes -o HostKeyAlias=%s -o UserKnownHostsFile=%s/known "
    .. "-o IdentitiesOnly=yes -o IdentityFile=%s/key -o Port=%d"):format(server.host, dir, dir,
    port or server.port)
end

local function kiln(verb, port)
  return ("%s/kiln lua spec/bench/transfer_client.lua %s %s %d %s %s"):format(build, dir,
    server.host, port or server.port, server.user, verb)
end

---A file of random bytes, made once.
local function file(size)
  local path = ("%s/%d"):format(dir, size)
  if not fs.stat(path) then sshd.output(("head -c %dM /dev/urandom > %s"):format(size, path)) end
  return path
end

---@return table result seconds, memory in MB, CPU seconds of the command
local function run(command)
  local done = assert(proc.run {
    argv = { build .. "/measure", "1", "sh", "-c", command }, timeout = 900 })
  local seconds, bytes, cpu = done.out:match("(%S+) (%S+) (%S+)")
  if done.code ~= 0 or not seconds then error(command .. ": " .. done.out .. done.err, 0) end
  return { seconds = tonumber(seconds), memory = tonumber(bytes) / 1e6, cpu = tonumber(cpu) }
end

---A virtual machine gives free memory back to its host, and a page that it has to ask for again
---costs more than to fill it: so every row finds pages that were just used.
local function warm()
  local path = dir .. "/warm"
  sshd.output(("head -c %dM /dev/zero > %s"):format(megabytes, path))
  assert(fs.remove(path))
end

---Prints a table of medians. Each round runs every row once, so that all meet the same machine.
local function group(title, rows, rate)
  local results, rsync = {}, sshd.output("command -v rsync") ~= ""
  for round = 1, times do
    for index, row in ipairs(rows) do
      local target = ("%s/there-%d"):format(dir, round)
      results[index] = results[index] or {}
      if rsync or not row[1]:find "^rsync" then
        warm()
        table.insert(results[index], run((row[2]:gsub("TARGET", target))))
      end
      fs.remove(target, { recursive = true })
    end
  end
  print(("%-36s %9s %7s %10s %11s %9s"):format(title, "wall", "ratio", "", "client CPU", "memory"))
  local base
  for index, row in ipairs(rows) do
    local all = results[index]
    table.sort(all, function(a, b) return a.seconds < b.seconds end)
    local median = all[#all // 2 + 1]
    if median then
      base = base or median.seconds
      print(("  %-34s %7.2f s %6.2fx %10s %9.2f s %6.1f MB"):format(row[1], median.seconds,
        median.seconds / base, rate(median.seconds), median.cpu, median.memory))
    else
      print(("  %-34s not installed"):format(row[1]))
    end
  end
end

local function megabytes_rate(size)
  return function(seconds) return ("%.0f MB/s"):format(size / seconds) end
end

local groups = {}

function groups.file()
  local big = file(megabytes)
  local sums = ("sha256sum %s && ssh %s %s sha256sum TARGET"):format(big, ssh(), host)
  group(("a file of %d MB"):format(megabytes), {
    { "scp", ("scp -q %s %s %s:TARGET"):format(ssh(), big, host) },
    { "scp, then sha256sum on both sides",
      ("scp -q %s %s %s:TARGET && %s"):format(ssh(), big, host, sums) },
    { "rsync -W", ("rsync -W -e 'ssh %s' %s %s:TARGET"):format(ssh(), big, host) },
    { "kiln upload, with sha256", ("%s %s TARGET"):format(kiln "upload", big) },
    { "kiln download, with sha256", ("%s %s TARGET"):format(kiln "download", big) },
  }, megabytes_rate(megabytes))
end

function groups.tree()
  for index = 1, files do
    local folder = ("%s/tree/%02d"):format(dir, (index - 1) // 100)
    if index % 100 == 1 then assert(fs.mkdir(folder, { parents = true })) end
    sshd.write(("%s/%d"):format(folder, index), ("%d "):format(index):rep(900):sub(1, 4096))
  end
  local tree = dir .. "/tree"
  sshd.output(("tar -C %s -cf %s.tar ."):format(tree, tree))
  local function rate(seconds) return ("%.0f/s"):format(files / seconds) end
  group(("%d files of 4 KB, up"):format(files), {
    { "scp -r", ("scp -q -r %s %s %s:TARGET"):format(ssh(), tree, host) },
    { "rsync -a", ("rsync -a -e 'ssh %s' %s/ %s:TARGET"):format(ssh(), tree, host) },
    { "kiln upload_tree, with sha256", ("%s %s TARGET"):format(kiln "upload_tree", tree) },
    { "tar c | ssh tar x", ("mkdir TARGET && tar -C %s -cf - . | ssh %s %s tar -C TARGET -xf -")
      :format(tree, ssh(), host) },
    { "floor: tar x here, from a file", ("mkdir TARGET && tar -C TARGET -xf %s.tar"):format(tree) },
  }, rate)
  group(("%d files of 4 KB, down"):format(files), {
    { "scp -r", ("scp -q -r %s %s:%s TARGET"):format(ssh(), host, tree) },
    { "rsync -a", ("rsync -a -e 'ssh %s' %s:%s/ TARGET"):format(ssh(), host, tree) },
    { "kiln download_tree, with sha256", ("%s %s TARGET"):format(kiln "download_tree", tree) },
  }, rate)
end

function groups.trips()
  for _, trip in ipairs { { 20, megabytes }, { 100, megabytes } } do
    local far <close> = delay_proxy.start(server.port, trip[1])
    local big = file(trip[2])
    group(("%d ms round trip, %d MB"):format(trip[1], trip[2]), {
      { "scp", ("scp -q %s %s %s:TARGET"):format(ssh(far.port), big, host) },
      { "rsync -W", ("rsync -W -e 'ssh %s' %s %s:TARGET"):format(ssh(far.port), big, host) },
      { "kiln upload, with sha256", ("%s %s TARGET"):format(kiln("upload", far.port), big) },
      { "kiln download, with sha256", ("%s %s TARGET"):format(kiln("download", far.port), big) },
    }, megabytes_rate(trip[2]))
  end
end

function groups.memory()
  for _, size in ipairs { megabytes // 10, megabytes } do
    group(("memory, %d MB"):format(size), {
      { "kiln upload", ("%s %s TARGET"):format(kiln "upload", file(size)) },
      { "kiln download", ("%s %s TARGET"):format(kiln "download", file(size)) },
    }, megabytes_rate(size))
  end
end

function groups.commands()
  group("1,000 commands, one connection", {
    { "ssh with ControlMaster", ([[set -e; ssh %s -M -S %s/control -f -N %s >/dev/null 2>&1
      for i in $(seq 1000); do ssh -S %s/control %s true; done
      ssh -S %s/control -O exit %s 2>/dev/null]]):format(ssh(), dir, host, dir, host, dir, host) },
    { "kiln", kiln "commands" },
  }, function(seconds) return ("%.2f ms"):format(seconds) end)
end

for _, name in ipairs(#wanted > 0 and wanted
  or { "file", "tree", "trips", "memory", "commands" }) do
  groups[name]()
end
