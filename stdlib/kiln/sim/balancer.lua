---A load balancer behind a simulator: listens on a loopback address of its own, asks its members
---for their health, and hands HTTP requests to those that are well, one after the other.
local rt_task = require "rt.task"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local scope = require "kiln.scope"

local balancer = {}

---@class kiln.sim.BalancerView what it shall do now; asked for again and again
---@field members { id: integer, address: string }[]
---@field rules { entry_protocol: string, entry_port: integer, target_port: integer }[]
---@field health { protocol: string, port: integer, path: string, check_interval_seconds: integer,
---  response_timeout_seconds: integer, healthy_threshold: integer, unhealthy_threshold: integer }

---@class kiln.sim.Balancer
---@field ip string
---@field private view fun(): kiln.sim.BalancerView
---@field private known table<integer, { well: boolean, streak: integer }> by member
---@field private servers table<integer, kiln.httpd.Server> by entry port
---@field private turn integer
---@field private log fun(text: string)
local Balancer = {}
Balancer.__index = Balancer

-- What concerns one connection only (RFC 9110, section 7.6.1), or is made anew on the other side.
local own_headers = {
  connection = true, ["keep-alive"] = true, te = true, trailer = true, upgrade = true,
  ["transfer-encoding"] = true, ["content-length"] = true, ["proxy-connection"] = true,
  ["accept-encoding"] = true, ["content-encoding"] = true, expect = true,
}

local function passed_on(headers)
  local out = {}
  for name, value in pairs(headers) do
    if not own_headers[name] then out[name] = value end
  end
  return out
end

---Asks a member once. Any error but a cancellation means that it is not well.
local function is_well(member, health)
  local ok, answer = xpcall(http.request, error_.from, {
    url = ("http://%s:%d%s"):format(member.address, health.port, health.path), check = false,
    attempts = 1, timeout = health.response_timeout_seconds, fresh_connection = true,
  })
  if not ok and answer.kind == "cancelled" then error(answer, 0) end
  return ok and answer.status >= 200 and answer.status < 400
end

---Notes what a check found: so many in a row change the verdict. The first one alone does not.
local function note(self, member, health, well)
  local state = self.known[member.id] or { well = false, streak = 0 }
  self.known[member.id] = state
  state.streak = well == state.well and 0 or state.streak + 1
  local needed = state.well and health.unhealthy_threshold or health.healthy_threshold
  if state.streak >= needed then state.well, state.streak = well, 0 end
end

local function check_members(self, view)
  local checks, there = {}, {}
  for index, member in ipairs(view.members) do
    there[member.id] = true
    checks[index] = function()
      note(self, member, view.health, is_well(member, view.health))
    end
  end
  scope.all(checks)
  for id in pairs(self.known) do
    if not there[id] then self.known[id] = nil end
  end
end

---Chooses the next member that is well.
local function choose(self)
  local members = self.view().members
  for step = 1, #members do
    local member = members[(self.turn + step - 1) % #members + 1]
    local state = self.known[member.id]
    if state and state.well then
      self.turn = (self.turn + step) % #members
      return member
    end
  end
end

local function forward(self, rule, request)
  local member = choose(self)
  if not member then
    return { status = 503, body = "No server is available to handle this request.\n" }
  end
  local headers = passed_on(request.headers)
  headers["x-forwarded-for"] = request.peer:match("^(.*):%d+$")
  headers["x-forwarded-proto"] = "http"
  local ok, answer = xpcall(http.request, error_.from, {
    method = request.method, check = false, attempts = 1, timeout = 60, headers = headers,
    url = ("http://%s:%d%s"):format(member.address, rule.target_port, request.target),
    body = request.body ~= "" and request.body or nil,
  })
  if ok then
    return { status = answer.status, headers = passed_on(answer.headers), body = answer.body }
  end
  if answer.kind == "cancelled" then error(answer, 0) end
  self.log(("load balancer %s: %s"):format(self.ip, answer.message))
  return { status = 502, body = "The server did not answer.\n" }
end

---Listens where the rules say, and no longer where they do not.
local function listen(self, rules)
  local wanted = {}
  for _, rule in ipairs(rules) do
    if rule.entry_protocol == "http" then wanted[rule.entry_port] = rule end
  end
  for port, server in pairs(self.servers) do
    if not wanted[port] then
      server:close()
      self.servers[port] = nil
    end
  end
  for port in pairs(wanted) do
    self.servers[port] = self.servers[port] or httpd.serve {
      host = self.ip, port = port, log = self.log,
      handler = function(request)
        for _, rule in ipairs(self.view().rules) do
          if rule.entry_port == port then return forward(self, rule, request) end
        end
        return { hang_up = true }
      end,
    }
  end
end

---Takes the first address of 127.77.0.0/16 where nobody else listens.
local function take_address(self, rules)
  for number = 1, 250 do
    self.ip = "127.77.0." .. number
    local ok, err = xpcall(listen, error_.from, self, rules)
    if ok then return end
    for _, server in pairs(self.servers) do server:close() end
    self.servers = {}
    if err.kind ~= "exists" then error(err, 0) end
  end
  error_.raise { kind = "limit", message = "no address of 127.77.0.1-250 is free to listen on" }
end

local function keep(self)
  while true do
    local view = self.view()
    local ok, err = xpcall(listen, error_.from, self, view.rules)
    if not ok and err.kind == "cancelled" then error(err, 0) end
    if not ok then self.log(("load balancer %s: %s"):format(self.ip, err.message)) end
    check_members(self, view)
    timer.sleep(view.health.check_interval_seconds)
  end
end

---Opens a load balancer. Raises `denied` (a port that only root may take), `limit`.
---@async
---@param view fun(): kiln.sim.BalancerView
---@param log fun(text: string)
---@return kiln.sim.Balancer
function balancer.open(view, log)
  local self = setmetatable({
    view = view, log = log, known = {}, servers = {}, turn = 0,
  }, Balancer)
  take_address(self, view().rules)
  self.keeper = rt_task.spawn(keep, self)
  return self
end

---Ends it and its connections.
---@async
function Balancer:close()
  self.keeper:cancel()
  self.keeper:join()
  for _, server in pairs(self.servers) do server:close() end
  self.servers = {}
end

return balancer
