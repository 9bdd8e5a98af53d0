---Starts spec/support/fault_proxy.c: ports that lead to a server and fail on the way.
local proc = require "rt.proc"

local fault_proxy = {}

---@class spec.FaultProxy
---@field ports table<string, integer> by fault
local FaultProxy = {}
FaultProxy.__index = FaultProxy

---Starts one with a port for each fault: "cut up 100", "stall down 0".
---@async
---@param target integer port of the server
---@param faults string[]
---@return spec.FaultProxy
function fault_proxy.start(target, faults)
  local program = proc.info().exe:match("^(.*)/") .. "/fault_proxy"
  local child = assert(proc.start { argv = { program, tostring(target), table.unpack(faults) },
    timeout = 3600 })
  local self = setmetatable({ child = child, ports = {} }, FaultProxy)
  for _, fault in ipairs(faults) do
    self.ports[fault] = assert(math.tointeger(tonumber((child:read_line()))),
      "fault_proxy does not start")
  end
  return self
end

---Stops it. May run twice.
---@async
function FaultProxy:close()
  if not self.child then return end
  self.child:kill("KILL")
  self.child:wait()
  self.child = nil
end

FaultProxy.__close = FaultProxy.close

return fault_proxy
