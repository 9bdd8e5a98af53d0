---Connections and commands over SSH beside the tools people use, against private sshds on loopback.
---Run as root: `build/release/kiln lua spec/bench/ssh_bench.lua [HOSTS]`. Names the tools that are
---absent.
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"

local build = assert(fs.realpath("/proc/self/exe")):match("^(.*)/")
local hosts = tonumber(arg[1]) or 200
local client = build .. "/kiln lua spec/bench/ssh_client.lua"
local cores = tonumber(proc.run { argv = { "nproc" } }.out)
local folder = assert(fs.temp_dir())
local servers = {}

local function shell(command, timeout)
  local done = assert(proc.run {
    argv = { "sh", "-c", command }, timeout = timeout or 600,
    env = { B = folder, HOME = folder, SSH_AUTH_SOCK = "" },
  })
  return done.code == 0 and done or nil, done
end

local function write(name, text, mode)
  assert(fs.write(folder .. "/" .. name, text, { mode = mode or "0644" }))
end

local function installed(program)
  return shell("command -v " .. program) ~= nil
end

local server_config = [[
%s
HostKey %s/host
AuthorizedKeysFile %s/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
MaxStartups 2000
LogLevel ERROR
SetEnv HOME=%s
]]

---sshd takes 16 addresses each.
local function start_servers()
  assert(shell("mkdir -p /run/sshd && ssh-keygen -q -t ed25519 -N '' -f $B/host && "
    .. "ssh-keygen -q -t ed25519 -N '' -f $B/user"))
  local endpoints = {}
  while #endpoints < hosts do
    local number = #servers + 10
    local listen = {}
    for last = 1, math.min(16, hosts - #endpoints) do
      listen[last] = ("ListenAddress 127.0.%d.%d:2300"):format(number, last)
      endpoints[#endpoints + 1] = ("127.0.%d.%d"):format(number, last)
    end
    write("sshd" .. number, server_config:format(table.concat(listen, "\n"), folder, folder,
      folder))
    servers[#servers + 1] = assert(proc.start {
      argv = { "/usr/sbin/sshd", "-D", "-e", "-f", folder .. "/sshd" .. number }, timeout = 0,
    })
  end
  write("endpoints", table.concat(endpoints, ":2300\n") .. ":2300\n")
  write("ansible.cfg", "[defaults]\n")
  write("names", table.concat(endpoints, "\n") .. "\n")
  write("known_hosts", "* " .. assert(fs.read(folder .. "/host.pub")))
  write("config", ("Host *\n  User root\n  Port 2300\n  IdentityFile %s/user\n"
    .. "  IdentitiesOnly yes\n  UserKnownHostsFile %s/known_hosts\n  GlobalKnownHostsFile none\n"
    .. "  LogLevel ERROR\n"):format(folder, folder))
  write("config25519", assert(fs.read(folder .. "/config"))
    .. "  KexAlgorithms curve25519-sha256\n")
  local tcp = require "rt.tcp"
  for _, host in ipairs(endpoints) do
    while not tcp.reach { host = host, port = 2300, timeout = 1 } do timer.sleep(0.02) end
  end
end

---CPU seconds of the servers and of every connection that has ended.
local function server_cpu()
  local ticks = 0
  for _, server in ipairs(servers) do
    local stat = assert(fs.read(("/proc/%d/stat"):format(server:pid()))):match("%) (.*)")
    local fields = {}
    for field in stat:gmatch("%S+") do fields[#fields + 1] = tonumber(field) or 0 end
    for index = 12, 15 do ticks = ticks + fields[index] end -- utime, stime, cutime, cstime
  end
  return ticks / 100
end

---Waits until the connections' processes have ended, so that their CPU counts.
local function settle()
  repeat
    timer.sleep(0.1)
    local left = shell("pgrep -P " .. table.concat((function()
      local pids = {}
      for index, server in ipairs(servers) do pids[index] = server:pid() end
      return pids
    end)(), ","))
  until not left
end

---Runs a command once; nil and its words when it fails.
local function run(command)
  local done, all = shell(("%s/measure 1 sh -c '%s 2>$B/err'"):format(build, command))
  if not done then return nil, all.err .. (fs.read(folder .. "/err") or "") end
  local seconds, bytes, cpu = done.out:match("(%S+) (%S+) (%S+)")
  return {
    seconds = tonumber(seconds), bytes = tonumber(bytes), cpu = tonumber(cpu),
    said = tonumber((fs.read(folder .. "/err"))),
  }
end

---The same, and what it cost the servers.
local function measure(command)
  settle()
  local before = server_cpu()
  local row, err = run(command)
  if not row then return nil, err end
  settle()
  row.server = server_cpu() - before
  return row
end

local function line(name, row, first)
  print(("%-38s %7.2f s %6.1fx %8.2f s %8.2f s %6.2fx %8.1f MB"):format(name, row.seconds,
    row.seconds / first.seconds, row.cpu, row.server, row.seconds / (row.server / cores),
    row.bytes / 1e6))
end

local function fan_out()
  print(("%d connections and `true` on each; %d cores, clients and servers share them")
    :format(hosts, cores))
  print(("%-38s %9s %7s %10s %10s %7s %11s"):format("", "wall", "ratio", "client CPU", "server CPU",
    "floor", "memory"))
  local rows = {
    { "kiln, 50 at once", ("%s fan $B %d 50"):format(client, hosts) },
    { "xargs -P50 ssh", "xargs -P50 -I{} ssh -F $B/config {} true <$B/names" },
    { "xargs -P50 ssh, curve25519",
      "xargs -P50 -I{} ssh -F $B/config25519 {} true <$B/names", },
    { "parallel-ssh -p50", "parallel-ssh -h $B/names -p 50 -t 120 -x \"-F $B/config\" true",
      needs = "parallel-ssh" },
    { "clush -f64", "clush --hostfile $B/names -f 64 -o \"-F $B/config\" true", needs = "clush" },
    { "ansible -m raw -f50", "ANSIBLE_CONFIG=$B/ansible.cfg ANSIBLE_HOME=$B/ansible "
      .. "ANSIBLE_SSH_ARGS=\"-F $B/config -o ControlMaster=auto -o ControlPersist=2s\" "
      .. "ansible all -i $B/names -m raw -a true -f 50 -o", needs = "ansible" },
    { "kiln, 50 at once, again", ("%s fan $B %d 50"):format(client, hosts) },
    { ("kiln, %d connections, 50 at once"):format(hosts * 5),
      ("%s fan $B %d 50"):format(client, hosts * 5) },
  }
  local first
  for _, row in ipairs(rows) do
    if row.needs and not installed(row.needs) then
      print(("%-38s NOT INSTALLED: apt-get install it to compare"):format(row[1]))
    else
      local result, err = measure(row[2])
      if result then
        first = first or result
        line(row[1], result, first)
        if row[1]:find "^kiln" then
          print(("%-38s longest turn of the loop %.1f ms of CPU"):format("", result.said * 1e3))
        end
      else
        print(("%-38s FAILED: %s"):format(row[1], err:sub(1, 200)))
      end
    end
  end
end

local function latency()
  local own = assert(measure(("%s latency $B 41"):format(client)))
  local whole = assert(measure(("%s latency $B 1"):format(client)))
  local name = assert(fs.read(folder .. "/names")):match("%S+")
  local function median(config)
    local done = assert(shell(("%s/measure 21 ssh -F $B/%s %s true"):format(build, config, name)))
    return tonumber(done.out:match("%S+"))
  end
  local default, tuned = median "config", median "config25519"
  print "\none host: connect, `true`, leave (median)"
  for _, row in ipairs {
    { "kiln, in a running program", own.said }, { "kiln, the whole process, once", whole.seconds },
    { "ssh", default }, { "ssh, curve25519", tuned },
  } do
    print(("%-38s %7.1f ms %6.2fx"):format(row[1], row[2] * 1e3, row[2] / default))
  end
end

local function kept()
  local one = assert(measure(("%s kept $B 1000 1"):format(client)))
  local eight = assert(measure(("%s kept $B 1000 8"):format(client)))
  local name = assert(fs.read(folder .. "/names")):match("%S+")
  assert(shell(("ssh -F $B/config -M -S $B/control -f -N %s >/dev/null 2>&1 </dev/null")
    :format(name)))
  local function master(at_once)
    local result = assert(run(("seq 1000 | xargs -P%d -I{} ssh -F $B/config -S $B/control %s "
      .. "true"):format(at_once, name)))
    return result.seconds / 1000, result.cpu
  end
  local master_one, master_cpu = master(1)
  local master_eight, master_eight_cpu = master(8)
  shell(("ssh -F $B/config -S $B/control -O exit %s"):format(name))
  print "\n1,000 commands on a kept connection, each"
  for _, row in ipairs {
    { "kiln, one after the other", one.said, one.cpu, master_one },
    { "ssh, ControlMaster, one after the other", master_one, master_cpu, master_one },
    { "kiln, 8 at once", eight.said, eight.cpu, master_eight },
    { "ssh, ControlMaster, 8 at once", master_eight, master_eight_cpu, master_eight },
  } do
    print(("%-40s %6.2f ms %6.2fx   client CPU %5.2f s"):format(row[1], row[2] * 1e3,
      row[2] / row[4], row[3]))
  end
end

local ok, err = pcall(function()
  start_servers()
  fan_out()
  latency()
  kept()
end)
settle()
for _, server in ipairs(servers) do server:close() end
assert(fs.remove(folder, { recursive = true }))
if not ok then error(err, 0) end
