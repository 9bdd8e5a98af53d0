---A simulated DigitalOcean account with a clock that the spec turns by hand.
local json = require "kiln.json"
local sim = require "providers.digitalocean.sim"

local do_account = {}

---@class spec.DoAccount
---@field sim kiln.do.Sim
---@field now number
---@field lost? string how the last answer was lost
local Account = {}
Account.__index = Account

---Opens an account.
---@param opts? table options of `sim.new`; the clock is the account's own
---@return spec.DoAccount
function do_account.new(opts)
  local self = setmetatable({ now = 1780000000 }, Account)
  local options = { clock = function() return self.now end }
  for name, value in pairs(opts or {}) do options[name] = value end
  self.sim = sim.new(options)
  return self
end

---Called with every request and its answer, for a spec that checks them once more.
---@type fun(request: table, answer: table)?
do_account.witness = nil

---Sends a request.
---@param method string
---@param path string "/v2/…", with a query if there is one
---@param body? table
---@return integer? status nil: the answer was lost
---@return table? body nil: none, or no JSON
---@return table? answer as the simulator gave it
function Account:call(method, path, body)
  local plain, query = path:match("^([^?]*)%??(.*)$")
  local request = {
    method = method, path = plain, query = query,
    headers = { Authorization = "Bearer any", Host = "api.test" },
    body = body and json.encode(body),
  }
  local answer, lost = self.sim:answer(request)
  self.lost = lost
  if not answer then return nil end
  if do_account.witness then do_account.witness(request, answer) end
  local ok, value = pcall(json.decode, answer.body)
  return answer.status, ok and value or nil, answer
end

---Sends a request that must be answered with a status; gives the body.
---@param status integer
---@param method string
---@param path string
---@param body? table
---@return table body
function Account:expect(status, method, path, body)
  local got, value = self:call(method, path, body)
  if got ~= status then
    error(("%s %s: answered %s %s, not %d"):format(method, path, tostring(got),
      value and json.encode(value) or "", status), 2)
  end
  return value
end

---Lets time pass.
---@param seconds number
function Account:pass(seconds)
  self.now = self.now + seconds
end

---Makes a droplet and lets it become active.
---@param fields? table over the defaults
---@return integer id
function Account:droplet(fields)
  local body = { name = "app", region = "nyc3", size = "s-1vcpu-1gb", image = "debian-12-x64" }
  for name, value in pairs(fields or {}) do body[name] = value end
  local id = self:expect(202, "POST", "/v2/droplets", body).droplet.id
  self:pass(self.sim.world.latency.create)
  return id
end

return do_account
