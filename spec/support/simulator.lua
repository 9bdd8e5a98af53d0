---`kiln sim digitalocean` in a process of its own, for clients that need a real port.
local fs = require "rt.fs"
local http = require "kiln.http"
local json = require "kiln.json"
local proc = require "rt.proc"
local rt_http = require "rt.http"
local task = require "rt.task"

local simulator = {}

---@class spec.Simulator
---@field url string
---@field port integer
---@field token string
---@field said string[] every line so far
---@field private child rt.proc.Child
local Simulator = {}
Simulator.__index = Simulator
Simulator.__close = function(self) self:close() end

---Starts one and waits until it is ready; close it (`local sim <close>`).
---@async
---@param arguments? string[] options of `kiln sim digitalocean`
---@param timeout? number seconds that it may live (120)
---@return spec.Simulator
function simulator.start(arguments, timeout)
  local argv = { assert(fs.realpath("/proc/self/exe")), "sim", "digitalocean", "-q" }
  for _, argument in ipairs(arguments or {}) do argv[#argv + 1] = argument end
  local self = setmetatable({
    child = assert(proc.start { argv = argv, timeout = timeout or 120 }), said = {},
  }, Simulator)
  while true do
    local line, stream = self.child:read_line()
    if not line then
      local result = assert(self.child:wait())
      error(("kiln sim ended with %s: %s"):format(tostring(result.code),
        table.concat(self.said, "\n")), 2)
    end
    self.said[#self.said + 1] = line
    self.url = self.url or (stream == "out" and line:match("DIGITALOCEAN_API_URL=(%S+)"))
    self.token = self.token or (stream == "out" and line:match("DIGITALOCEAN_TOKEN=(%S+)"))
    if self.url and self.token then break end
  end
  self.port = math.tointeger(tonumber(self.url:match(":(%d+)$")))
  self.reader = task.spawn(function()
    for line in function() return self.child:read_line() end do
      self.said[#self.said + 1] = line
    end
  end)
  return self
end

---Sends a request.
---@async
---@param method string
---@param path string
---@param body? table
---@return table? body
---@return integer status
function Simulator:call(method, path, body)
  local response = http.request {
    method = method, url = self.url .. path, json = body, check = false, attempts = 1,
    headers = { Authorization = "Bearer " .. self.token },
  }
  return response.body ~= "" and json.decode(response.body) or nil, response.status
end

---Ends it, waits for its end and forgets the kept connections to it. May run twice.
---@async
---@return integer? code
function Simulator:close()
  if self.code then return self.code end
  self.child:kill "TERM"
  self.reader:join()
  self.code = assert(self.child:wait()).code
  self.child:close()
  rt_http.forget()
  return self.code
end

return simulator
