---A stateful model of DigitalOcean's API: one function of (state, clock, request).
---
---It does no I/O of its own, so a spec may run it on a virtual clock; over HTTP it is `kiln sim
---digitalocean`. What it does not model: `sim.gaps`.
local crypto = require "kiln.crypto"
local error_ = require "kiln.error"
local json = require "kiln.json"
local trace = require "kiln.trace"
local catalogue = require "providers.digitalocean.sim.catalogue"
local droplet_actions = require "providers.digitalocean.sim.droplet_actions"
local faults = require "providers.digitalocean.sim.faults"
local input = require "providers.digitalocean.sim.input"
local rate = require "providers.digitalocean.sim.rate"
local reply = require "providers.digitalocean.sim.reply"
local router = require "providers.digitalocean.sim.router"
local settings = require "providers.digitalocean.sim.settings"
local world = require "providers.digitalocean.sim.world"

local sim = {}

sim.faults = faults
sim.gaps = settings.gaps
sim.latency = settings.latency

local function routes()
  return router.new {
    require "providers.digitalocean.sim.account",
    require "providers.digitalocean.sim.keys",
    require "providers.digitalocean.sim.tags",
    droplet_actions,
    require "providers.digitalocean.sim.droplets",
    require "providers.digitalocean.sim.images",
    require "providers.digitalocean.sim.actions",
    require "providers.digitalocean.sim.vpcs",
    require "providers.digitalocean.sim.reserved_ips",
    require "providers.digitalocean.sim.load_balancers",
    require "providers.digitalocean.sim.domains",
    require "providers.digitalocean.sim.databases",
    require "providers.digitalocean.sim.firewalls",
    require "providers.digitalocean.sim.volumes",
    require "providers.digitalocean.sim.certificates",
    require "providers.digitalocean.sim.projects",
  }
end

---@class kiln.do.Sim
---@field world kiln.do.sim.World
---@field faults kiln.do.sim.Faults
local Sim = {}
Sim.__index = Sim

---@class kiln.do.sim.Options
---@field clock fun(): number seconds since 1970; the simulator never looks at another clock
---@field latency? table<string, number> seconds that things take; see `sim.latency`
---@field limits? table<string, number> droplets, reserved_ips, volumes, hour, minute, keys_minute
---@field faults? kiln.do.sim.Fault[]
---@field token? string the one that is accepted (any)
---@field url? string where links point to when a request names no host
---@field machines? table what backs droplets with machines: providers/digitalocean/sim/machines.lua
---@field observe? fun(seen: { at: number, method: string, path: string, status: integer? })

local known_options = { clock = true, latency = true, limits = true, faults = true, token = true,
  url = true, machines = true, observe = true }

---Makes a simulator with an empty account. Raises `usage` for an option it does not have.
---@param opts kiln.do.sim.Options
---@return kiln.do.Sim
function sim.new(opts)
  for name in pairs(opts) do
    if not known_options[name] then
      error_.raise { kind = "usage", message = ("sim.new: unknown option '%s'"):format(name) }
    end
  end
  local limits = settings.merge("limit", settings.limits, opts.limits)
  local self = setmetatable({
    clock = opts.clock, token = opts.token, url = opts.url or "https://api.digitalocean.com",
    observe = opts.observe or function() end, machines = opts.machines,
    faults = faults.new(opts.faults), rate = rate.new(limits), router = routes(),
    world = world.new {
      now = opts.clock(), latency = settings.merge("latency", settings.latency, opts.latency),
      limits = limits, machines = opts.machines,
    },
  }, Sim)
  self.world.regions, self.world.sizes = catalogue.regions(), catalogue.sizes()
  for _, image in ipairs(catalogue.images()) do self.world.images:add(image) end
  return self
end

---@class kiln.do.sim.Request
---@field method string
---@field path string percent-decoded
---@field query? string|table<string, string>
---@field headers? table<string, string>
---@field body? string

local function lower_names(headers)
  local out = {}
  for name, value in pairs(headers or {}) do out[name:lower()] = value end
  return out
end

local function read(self, raw)
  local headers = lower_names(raw.headers)
  local path = raw.path:gsub("//+", "/"):gsub("(.)/$", "%1") -- python-digitalocean ends with one
  return {
    method = raw.method:upper(), path = path, headers = headers, query = input.query(raw.query),
    raw_body = raw.body, body = {},
    base = headers.host and "http://" .. headers.host or self.url,
  }
end

local function check_token(self, request)
  local token = (request.headers.authorization or ""):match("^[Bb]earer%s+(%S+)%s*$")
  if not token or (self.token and token ~= self.token) then
    reply.refuse(401, "unauthorized", "Unable to authenticate you.")
  end
end

local function check_path(request, known)
  if settings.is_gap(request.path) then
    reply.refuse(501, "not_modelled", ("kiln's simulator does not model %s %s")
      :format(request.method, request.path))
  end
  if known then
    reply.refuse(405, "method_not_allowed", "This method is not supported for this endpoint.")
  end
  reply.not_found()
end

local function handle(self, request)
  check_token(self, request)
  request.at_most = function(name, most)
    if self.rate:window(self.world.now, name, most, 60) then
      reply.refuse(429, "too_many_requests", "API Rate limit exceeded.")
    end
  end
  local handler, parameters, known = self.router:find(request.method, request.path)
  if not handler then return check_path(request, known) end
  for name, value in pairs(parameters) do request[name] = value end
  return handler(self.world, request)
end

---Runs a handler: its refusal is an answer, any other error a fault of the simulator.
local function attempt(self, request, request_id)
  local ok, answer = xpcall(handle, function(err)
    if reply.is_refusal(err) then return err end
    return trace.handler(err)
  end, self, request)
  if ok then return answer end
  if reply.is_refusal(answer) then return reply.refused(answer, request_id) end
  error(answer, 0)
end

local function finished(answer, rate_headers, request_id)
  local headers = { ["x-request-id"] = request_id }
  for name, value in pairs(rate_headers) do headers[name] = value end
  for name, value in pairs(answer.headers) do headers[name] = value end
  if answer.json then
    headers["content-type"] = "application/json; charset=utf-8"
    answer.body = json.encode(answer.json)
  end
  return { status = answer.status, headers = headers, body = answer.body or "" }
end

---Answers as the real API does, with what a placed fault makes of it.
local function answer_request(self, request, fault, rate_headers, full, request_id)
  local instead = fault and faults.answer(fault)
  if instead and not fault.after then return finished(instead, {}, request_id) end
  local answer
  if full then
    answer = reply.refused({ status = 429, id = "too_many_requests",
      message = "API Rate limit exceeded." }, request_id)
  else
    answer = attempt(self, request, request_id)
  end
  local done = finished(answer, rate_headers, request_id)
  if instead then return finished(instead, {}, request_id) end
  faults.change(fault, done)
  if fault and fault.kind == "delay" then done.delay = fault.seconds or 1 end
  return done
end

---Brings the account to the present: what was due has happened.
function Sim:catch_up()
  self.world:advance(self.clock())
  for _, id in ipairs(self.machines and self.machines.stopped() or {}) do
    droplet_actions.guest_off(self.world, id)
  end
end

---Answers a request; waits only where machines back the droplets.
---@param raw kiln.do.sim.Request
---@return { status: integer, headers: table<string, string>, body: string, delay: number? }? answer
---  whoever delivers it waits `delay` seconds first
---@return string? lost "lost_before" or "lost_after": the connection drops instead
function Sim:answer(raw)
  self:catch_up()
  local request = read(self, raw)
  local ok, body = pcall(input.body, request.raw_body)
  if ok then request.body = body end
  local fault = self.faults:take(request)
  local request_id = self.world:uuid()
  local rate_headers, full = self.rate:count(self.world.now)
  local seen = { at = self.world.now, method = request.method, path = request.path }
  self.world.fault = fault
  local done
  if not (fault and fault.kind == "lost_before") then
    if ok then
      done = answer_request(self, request, fault, rate_headers, full, request_id)
    elseif reply.is_refusal(body) then
      done = finished(reply.refused(body, request_id), rate_headers, request_id)
    else
      error(body, 0)
    end
  end
  self.world.fault = nil
  seen.status = done and done.status
  self.observe(seen)
  if fault and (fault.kind == "lost_before" or fault.kind == "lost_after") then
    return nil, fault.kind
  end
  return done
end

---Lets a droplet switch itself off from inside, as `poweroff` in its own session does.
---@param id integer|string
function Sim:power_off(id)
  self:catch_up()
  droplet_actions.guest_off(self.world, id)
end

---Gives the MD5 fingerprint under which the account knows a public key.
---@param public string
---@return string
function sim.fingerprint(public)
  return crypto.md5_fingerprint(public)
end

return sim
