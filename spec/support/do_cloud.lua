---DigitalOcean's driver on a simulated account in this process; time passes as rt.timer says.
local crypto = require "rt.crypto"
local timer = require "rt.timer"
local digitalocean = require "providers.digitalocean"
local error_ = require "kiln.error"
local sim = require "providers.digitalocean.sim"

local do_cloud = {}

---Carries a request to the simulator as a connection would.
local function carry(self, request)
  local path, query = request.url:match("^%a+://[^/]+([^?]*)%??(.*)$")
  local headers = {}
  for name, value in pairs(request.headers or {}) do
    headers[name] = crypto.is_secret(value) and crypto.reveal(value) or value
  end
  timer.sleep(self.trip)
  local answer, lost = self.sim:answer {
    method = request.method, path = path, query = query, headers = headers, body = request.body,
  }
  if not answer then
    error_.raise { kind = "unreachable", effect = "maybe",
      message = "the connection ended before an answer: " .. lost }
  end
  if answer.delay then timer.sleep(answer.delay) end
  return answer
end

---Opens an account and a driver for it.
---@param opts? table `latency`, `limits`, `faults`, `token` of the simulator; `trip` seconds of a
---  request (0.05); `driver` options of the driver
---@return { sim: table, driver: table, seen: table[], place: fun(fault: table) }
function do_cloud.new(opts)
  opts = opts or {}
  local self = { seen = {}, trip = opts.trip or 0.05 }
  self.sim = sim.new {
    clock = timer.time, latency = opts.latency, limits = opts.limits, faults = opts.faults,
    token = opts.token,
    observe = function(seen) self.seen[#self.seen + 1] = seen end,
  }
  self.place = function(fault) self.sim.faults:place(fault) end
  self.send = function(request) return carry(self, request) end
  local options = { token = crypto.secret "spec-token", url = "http://api.test", send = self.send }
  for name, value in pairs(opts.driver or {}) do options[name] = value end
  self.driver = digitalocean.new(options)
  ---Counts the requests of a method to paths that match a pattern.
  function self.count(method, pattern)
    local count = 0
    for _, seen in ipairs(self.seen) do
      if seen.method == method and seen.path:find(pattern) then count = count + 1 end
    end
    return count
  end
  return self
end

return do_cloud
