---What the simulated account holds, and time: events that are due happen when a request looks.
---
---Nothing here waits or reads a clock by itself: `advance(now)` brings the world to a moment, and
---everything due until then happens in the order of its time. An event may have a job, something
---that takes real time outside (a local machine that starts); it then happens when its time has
---come and its job is done.
local collection = require "providers.digitalocean.sim.collection"

local world = {}

---@class kiln.do.sim.Job
---@field done boolean
---@field error? kiln.Error why it failed
---@field value? any

---@class kiln.do.sim.World
---@field now number seconds since 1970-01-01 00:00:00 UTC
---@field latency table<string, number>
---@field limits table<string, number>
---@field fault? table the fault placed on the request that is being answered
local World = {}
World.__index = World

local kinds = {
  "droplets", "actions", "images", "keys", "tags", "reserved_ips", "load_balancers", "domains",
  "databases", "firewalls", "vpcs", "volumes", "volume_snapshots", "certificates", "projects",
}

---Makes an empty account.
---@param opts { now: number, latency: table<string, number>, limits: table<string, number>,
---  machines: table? }
---@return kiln.do.sim.World
function world.new(opts)
  local self = setmetatable({
    now = opts.now, latency = opts.latency, limits = opts.limits, machines = opts.machines,
    events = {}, sequence = 0, counters = {},
  }, World)
  for _, kind in ipairs(kinds) do self[kind] = collection.new() end
  return self
end

---Gives the next number of a series: ids are the same in every run of the same requests.
---@param series string
---@param first integer
---@return integer
function World:number(series, first)
  local value = (self.counters[series] or first - 1) + 1
  self.counters[series] = value
  return value
end

---Gives a fresh UUID (RFC 9562, version 4 in form), the same in every run of the same requests.
---@return string
function World:uuid()
  local count = self:number("uuid", 1)
  return ("%08x-%04x-4%03x-8%03x-%012x"):format(
    (count * 2654435761) & 0xffffffff, (count * 40503) & 0xffff, (count * 2531) & 0xfff,
    count & 0xfff, count)
end

---Writes a moment as the API does.
---@param at? number (now)
---@return string "2020-07-21T18:37:44Z"
function World:stamp(at)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(at or self.now)) --[[@as string]]
end

---Lets something happen later.
---@param seconds number from now
---@param happen fun(job: kiln.do.sim.Job?)
---@param job? kiln.do.sim.Job it waits for this too
function World:after(seconds, happen, job)
  self.sequence = self.sequence + 1
  local event = {
    at = self.now + seconds, sequence = self.sequence, happen = happen, job = job,
  }
  local place = #self.events + 1
  while place > 1 and self.events[place - 1].at > event.at do place = place - 1 end
  table.insert(self.events, place, event)
end

---Adds something that a request creates, as the fault on the request has it: at once, `unseen` for
---a while, or gone again (`vanish`).
---@generic T
---@param kind string the collection: "databases"
---@param row T
---@return T row
function World:appear(kind, row)
  local fault = self.fault or {}
  local unseen = fault.kind == "unseen" and (fault.seconds or 5) or self.latency.visible
  row.visible_at = self.now + unseen
  self[kind]:add(row)
  if fault.kind == "vanish" then
    self:after(fault.seconds or 10, function()
      row.gone = true
      self[kind]:remove(row.id)
    end)
  end
  return row
end

---Lists what a request may see.
---@param kind string
---@param accepts? fun(row: table): any (all)
---@return table[]
function World:visible(kind, accepts)
  return self[kind]:list(function(row)
    return self.now >= (row.visible_at or 0) and (not accepts or accepts(row))
  end)
end

---Gives a row that a request may see.
---@param kind string
---@param id string|integer
---@return table? row
function World:seen(kind, id)
  local row = self[kind]:get(id)
  return row and self.now >= (row.visible_at or 0) and row or nil
end

---Lets what was created become ready, as the fault on the request has it: in its time, `errored`,
---never (`endless`), or late (`slow`).
---@param row table nothing happens to one that is gone by then
---@param seconds number
---@param ready fun(job: kiln.do.sim.Job?)
---@param failed fun()
---@param job? kiln.do.sim.Job it waits for this too; its error makes it fail
function World:becomes(row, seconds, ready, failed, job)
  local fault = self.fault or {}
  if fault.kind == "endless" then return end
  self:after(fault.kind == "slow" and fault.seconds or seconds, function(ended)
    if row.gone then return end
    if fault.kind == "errored" or ended and ended.error then failed() else ready(ended) end
  end, job)
end

---Takes the first event that is due and whose job is done.
local function take_due(self, now)
  for place, event in ipairs(self.events) do
    if event.at > now then return nil end
    if not event.job or event.job.done then return table.remove(self.events, place) end
  end
end

---Lets everything happen that is due.
---@param now number
function World:advance(now)
  while true do
    local event = take_due(self, now)
    if not event then break end
    self.now = math.max(self.now, event.at)
    event.happen(event.job)
  end
  self.now = math.max(self.now, now)
end

---Tells when the next event is due: a virtual clock may jump there.
---@return number? at
function World:next_event()
  return self.events[1] and self.events[1].at
end

return world
