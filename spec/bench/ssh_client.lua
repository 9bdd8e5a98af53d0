---What ssh_bench.lua measures of kiln: `kiln lua ssh_client.lua MODE FOLDER COUNT AT_ONCE`. The
---folder has the key, the host key and the list of endpoints.
local fs = require "rt.fs"
local rt_exec = require "rt.exec"
local rt_ssh = require "rt.ssh"
local scope = require "kiln.scope"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"

local mode, folder, count, at_once = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])
local endpoints = {}
for host, port in assert(fs.read(folder .. "/endpoints")):gmatch("(%S+):(%d+)\n") do
  endpoints[#endpoints + 1] = { host = host, port = math.tointeger(tonumber(port)) }
end
local key = assert(rt_ssh.key { text = assert(fs.read(folder .. "/user")) })
local host_key = assert(fs.read(folder .. "/host.pub"))

local function connect(index)
  local at = endpoints[(index - 1) % #endpoints + 1]
  return ssh.connect {
    host = at.host, port = at.port, user = "root", key = { key }, host_key = host_key, within = 120,
  }
end

---Many connections, a command on each; tells the longest turn of the loop.
local function fan()
  local meter <close> = timer.meter()
  local numbers = {}
  for index = 1, count do numbers[index] = index end
  scope.all(numbers, function(index)
    local session <close> = connect(index)
    session:run "true"
  end, { at_once = at_once })
  io.stderr:write(("%.6f\n"):format((meter:longest())))
end

---One after the other; tells the median latency.
local function latency()
  local seconds = {}
  for index = 1, count do
    local since = timer.now()
    local session <close> = connect(1)
    session:run "true"
    seconds[index] = timer.now() - since
  end
  table.sort(seconds)
  io.stderr:write(("%.6f\n"):format(seconds[(count + 1) // 2]))
end

---Commands on one connection.
local function kept()
  local session <close> = connect(1)
  local numbers = {}
  for index = 1, count do numbers[index] = index end
  local since = timer.now()
  scope.all(numbers, function()
    assert(rt_exec.run(session:primitive(), "true").code == 0)
  end, { at_once = at_once })
  io.stderr:write(("%.6f\n"):format((timer.now() - since) / count))
end

({ fan = fan, latency = latency, kept = kept })[mode]()
