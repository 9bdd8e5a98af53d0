---How fast kiln asks and answers over HTTP, beside curl and wrk on the same server.
---Run: `build/release/kiln lua spec/bench/http_bench.lua [requests] [at once] [times]`
local proc = require "rt.proc"

local kiln = proc.info().exe
local requests, at_once = tonumber(arg[1]) or 10000, tonumber(arg[2]) or 50
local times = tonumber(arg[3]) or 7
local base

local function installed(program)
  return assert(proc.run { argv = { "sh", "-c", "command -v " .. program } }).code == 0
end

---Seconds of a process's processor time so far, user and system (proc(5), stat, fields 14 and 15).
local function cpu_of(pid)
  local file = assert(io.open(("/proc/%d/stat"):format(pid)))
  local text = file:read("a"):match("^.*%) (.*)$")
  file:close()
  local fields = {}
  for field in text:gmatch("%S+") do fields[#fields + 1] = field end
  return (tonumber(fields[12]) + tonumber(fields[13])) / 100
end

---Runs a command several times; gives its median seconds, its mean processor time and its largest
---memory, by the shell's `time` and measure.
local function run(argv)
  local measured = kiln:match("^(.*)/") .. "/measure"
  local done = assert(proc.run {
    argv = { "bash", "-c", 'TIMEFORMAT="%U %S"; time "$@"', "bash", measured,
      tostring(times), table.unpack(argv) },
    timeout = 300,
  })
  local seconds, memory = done.out:match("(%S+) (%S+)")
  local user, system = done.err:match("([%d.]+) ([%d.]+)%s*$")
  if done.code ~= 0 or not seconds or not user then
    error(("%s failed: %s%s"):format(argv[1], done.out, done.err))
  end
  return { seconds = tonumber(seconds), cpu = (tonumber(user) + tonumber(system)) / times,
    memory = tonumber(memory) }
end

local function report(name, result, server_cpu)
  base = base or result.seconds
  print(("%-38s %7.2f s %8.0f/s %6.2fx %8.2f s %8.2f s %7.1f MB"):format(name, result.seconds,
    requests / result.seconds, result.seconds / base, result.cpu, server_cpu, result.memory / 1e6))
end

local server = assert(proc.start { argv = { kiln, "lua", "spec/bench/http_requests.lua", "serve" },
  timeout = 3600 })
local stop <close> = setmetatable({}, { __close = function()
  server:kill("KILL")
  server:wait()
end })
local url = assert(server:read_line(), "the server does not start")
local pid = server:pid()

---Runs one of the table's lines, after one that warms up.
local function compare(name, argv)
  local before = cpu_of(pid)
  local result = run(argv)
  report(name, result, (cpu_of(pid) - before) / times)
end

print(("%d requests, %d at once, a body of 512 bytes, one kiln server on loopback, median of %d")
  :format(requests, at_once, times))
print(("%-38s %9s %10s %7s %10s %10s %10s"):format("", "time", "rate", "ratio", "client CPU",
  "server CPU", "memory"))
run { "curl", "-s", "-o", "/dev/null", url }
if installed "curl" then
  compare("curl --parallel", { "curl", "-s", "--parallel", "--parallel-max", tostring(at_once),
    "-o", "/dev/null", url .. "?[1-" .. requests .. "]" })
else
  print "curl is not installed"
end
compare("kiln.http", { kiln, "lua", "spec/bench/http_requests.lua", "ask", url, tostring(requests),
  tostring(at_once) })
compare("rt.http (below kiln.http)", { kiln, "lua", "spec/bench/http_requests.lua", "ask", url,
  tostring(requests), tostring(at_once), "rt" })

if installed "wrk" then
  local before = cpu_of(pid)
  local done = assert(proc.run { argv = { "wrk", "-t", "1", "-c", tostring(at_once), "-d", "5s",
    url }, timeout = 60 })
  print(("%-38s %9s %8.0f/s %18s %8.2f s"):format("wrk, 5 s: what the server can do", "",
    tonumber(done.out:match("Requests/sec:%s+(%S+)")), "", cpu_of(pid) - before))
else
  print "wrk is not installed (Debian: wrk): no figure for the server alone"
end
return stop
