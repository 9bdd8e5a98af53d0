---`kiln sim CLOUD`: a simulated cloud as a server, for kiln and for other clients of its API.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local error_ = require "kiln.error"
local provider = require "kiln.provider"
local scope = require "kiln.scope"
local screen = require "kiln.cli.screen"
local serve = require "kiln.sim.serve"
local yaml = require "kiln.yaml"

local sim = {}

---Says something to the user who started the simulator.
local function say(text, ...)
  screen.say(text, ...)
  io.stdout:flush()
end

---Reads "create=33,off=7".
local function pairs_of(texts, option)
  local out = {}
  for _, text in ipairs(texts or {}) do
    for part in text:gmatch("[^,]+") do
      local name, value = part:match("^%s*([%w_]+)%s*=%s*([%d.]+)%s*$")
      if not tonumber(value) then
        error_.raise { kind = "usage",
          message = ("%s takes name=number,…, not '%s'"):format(option, part) }
      end
      out[name] = tonumber(value)
    end
  end
  return out
end

---Reads the faults of a file: a list, as YAML or JSON.
local function faults_of(path)
  if not path then return nil end
  local list = yaml.decode(error_.check(fs.read(path)))
  if type(list) == "table" and list.faults then list = list.faults end
  if type(list) ~= "table" then
    error_.raise { kind = "usage", message = path .. ": a list of faults is expected" }
  end
  return list
end

local function number_of(options, name, least, most)
  local value = tonumber(options[name])
  if options[name] and (not value or value < least or value > most) then
    error_.raise { kind = "usage", message = ("--%s must be a number from %g to %g, not '%s'")
      :format(name, least, most, options[name]) }
  end
  return value
end

local function list_faults(module)
  say("Faults are placed by method, path (* one part, ** any rest), type (of an action), member")
  say("(of droplets made together), nth and times, in a file of YAML or JSON:\n")
  say("  - { method: POST, path: /v2/droplets, nth: 2, kind: lost_after }\n")
  for _, entry in ipairs(module.faults.catalogue) do
    say("  %-13s %-7s %s", entry.kind, entry.on, entry.what)
  end
end

local function list_gaps(module)
  say("It does not model:")
  for _, gap in ipairs(module.gaps) do say("  %s", gap) end
end

---Opens local machines behind the simulator.
local function open_machines(options, limits)
  if (options.machines or "none") == "none" then return nil end
  if options.machines ~= "local" then
    error_.raise { kind = "usage", message = "--machines is local or none" }
  end
  return require("kiln.sim.machines").open(require("kiln.sim.site").open(), {
    addresses = math.tointeger(limits.reserved_ips or 3),
    progress = screen.warn,
    log = function(text) screen.warn("machines: " .. text) end,
  })
end

local function token_of(options)
  local kept = proc.getenv "KILN_SIM_TOKEN"
  return options.token or kept and kept ~= "" and kept
    or "dop_v1_" .. crypto.hex(crypto.random(32))
end

local function observer(options, clock)
  if not options.verbose then return nil end
  local began = clock()
  return function(seen)
    screen.warn(("%9.2f %-6s %s %s"):format(seen.at - began, seen.method, seen.path,
      seen.status or "lost"))
  end
end

local function greet(options, module, server, token)
  say("%s is simulated on %s (Ctrl-C ends it)", options.provider, server.url)
  say("  export DIGITALOCEAN_API_URL=%s", server.url)
  say("  export DIGITALOCEAN_TOKEN=%s", token)
  if options.quiet then return end
  list_gaps(module)
  if (options.machines or "none") == "local" then
    say("  of local machines: every base image is the same Debian; sizes, regions and private")
    say("  networks change nothing; a snapshot wants a droplet that is off, which then stays off;")
    say("  no metadata service: user data comes with the machine; a PostgreSQL cluster is a")
    say("  machine, its user doadmin: later users and databases, and other engines, are rows; load")
    say("  balancers pass HTTP on, from a loopback address that machines do not reach")
  end
  say("Ready.")
end

---Waits for a signal to end.
local function wait_for_end()
  scope.race {
    function() proc.signal "INT" end,
    function() proc.signal "TERM" end,
    function() proc.signal "HUP" end,
  }
end

---Runs the simulator until a signal ends it.
---@async
---@param options table
---@return integer status
function sim.sim(options)
  local module = provider.simulator(options.provider)
  if options.list_faults then
    list_faults(module)
    list_gaps(module)
    return 0
  end
  local speed = number_of(options, "speed", 0.01, 1e6) or 1
  local limits = pairs_of(options.limit, "--limit")
  local token, clock = token_of(options), serve.clock(speed)
  local settings = {
    clock = clock, latency = pairs_of(options.latency, "--latency"), limits = limits,
    faults = faults_of(options.faults), token = token, observe = observer(options, clock),
  }
  local simulator
  -- The port comes first: a taken one is told before machines are prepared.
  local server <close> = serve.start({
    answer = function(_, request)
      if simulator then return simulator:answer(request) end -- else the connection drops
    end,
  }, {
    host = options.host, port = math.tointeger(number_of(options, "port", 0, 65535) or 0),
    speed = speed,
  })
  module.new(settings) -- says what is wrong with the settings before anything is started
  settings.machines = open_machines(options, limits)
  local _ <close> = setmetatable({}, { __close = function()
    if settings.machines then settings.machines.close() end
  end })
  simulator = module.new(settings)
  greet(options, module, server, token)
  wait_for_end()
  return 0
end

return sim
