---Small things that an ordinary user asks of local machines; run by `kiln lua`, with which as the
---first argument.
local tcp = require "rt.tcp"
local error_ = require "kiln.error"
local provider = require "providers.local"

local driver, asks = provider.new {}, {}

---Reaches an address in a process that has asked for nothing before.
function asks.reach(host, port)
  local reached, err = tcp.reach { host = host, port = math.tointeger(tonumber(port)) }
  print(reached and "reached" or err.message)
end

---Asks for a machine where there can be none; prints the error's kind, and how many machines there
---are then, and its message on standard error.
function asks.create()
  local ok, err = xpcall(function()
    local base = driver:base_image "debian-13"
    driver:create_machine { name = "never", token = "t", image = base.id }
  end, error_.from)
  print(ok and "created" or err.kind)
  io.stderr:write(ok and "" or err.message, "\n")
  print(#driver:machines())
end

asks[arg[1]](arg[2], arg[3])
