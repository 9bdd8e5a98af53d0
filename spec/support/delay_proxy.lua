---Starts spec/support/delay_proxy.c: a port that leads to a server with a long round trip.
local proc = require "rt.proc"

local delay_proxy = {}

---@class spec.DelayProxy
---@field port integer
local DelayProxy = {}
DelayProxy.__index = DelayProxy

---Starts one.
---@async
---@param target integer port of the server
---@param milliseconds number of a round trip
---@return spec.DelayProxy
function delay_proxy.start(target, milliseconds)
  local program = proc.info().exe:match("^(.*)/") .. "/delay_proxy"
  local child = assert(proc.start { timeout = 3600,
    argv = { program, tostring(target), tostring(milliseconds) } })
  local port = assert(math.tointeger(tonumber((child:read_line()))), "delay_proxy does not start")
  return setmetatable({ child = child, port = port }, DelayProxy)
end

---Stops it. May run twice.
---@async
function DelayProxy:close()
  if not self.child then return end
  self.child:kill("KILL")
  self.child:wait()
  self.child = nil
end

DelayProxy.__close = DelayProxy.close

return delay_proxy
