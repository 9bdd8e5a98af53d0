---Waiting for DigitalOcean: one list of droplets a tick for all who wait for one, a look of its own
---for every action, each first near the time when it should be over.
---
---How long things take is learnt: from the account's last actions, then from what was seen.
local error_ = require "kiln.error"
local ticker = require "kiln.ticker"
local naming = require "providers.digitalocean.naming"

local wait = {}

---Seconds that things usually take, until the account's own actions say better.
local usual = {
  create = 35, off = 7, snapshot = 60, assign_ip = 5, unassign_ip = 5, transfer = 600,
  load_balancer = 80, database = 240, certificate = 30, attach = 10, detach = 10, listing = 1,
}

---@class kiln.digitalocean.Wait
---@field private api kiln.digitalocean.Api
local Wait = {}
Wait.__index = Wait

---Makes what a driver waits with.
---@param client kiln.digitalocean.Api
---@return kiln.digitalocean.Wait
function wait.new(client)
  local self = setmetatable({ api = client, seconds = {} }, Wait)
  local function slower() return client:slower() end
  self.fleet = ticker.new(function() return self:droplets() end, { slower = slower })
  self.slower = slower
  return self
end

---Lists kiln's droplets, by id.
---@async
---@return table<integer, table>
function Wait:droplets()
  local by_id = {}
  for _, droplet in ipairs(self.api:list("/v2/droplets?tag_name=" .. naming.ours, "droplets")) do
    by_id[droplet.id] = droplet
  end
  return by_id
end

---Takes the durations of the account's last actions over, once.
local function learn(self)
  if self.learnt then return end
  self.learnt = true
  local ok, answer = xpcall(self.api.call, error_.from, self.api, "GET", "/v2/actions?per_page=100",
    nil, { within = 10 })
  if not ok then
    if error_.is(answer, "auth", "denied", "cancelled", "stopped") then error(answer, 0) end
    return -- what is usual will do
  end
  local seen = {}
  for _, action in ipairs(answer.actions or {}) do
    local from, to = naming.epoch(action.started_at), naming.epoch(action.completed_at)
    local kind = (action.type == "shutdown" or action.type == "power_off") and "off" or action.type
    if action.status == "completed" and from and to and to > from then
      seen[kind] = seen[kind] or {}
      table.insert(seen[kind], to - from)
    end
  end
  for kind, list in pairs(seen) do
    table.sort(list)
    self.seconds[kind] = self.seconds[kind] or list[(#list + 1) // 2]
  end
end

---Seconds that something is expected to take.
---@param kind string an action's type, "off", "load_balancer", "database"
---@return number
function Wait:expected(kind)
  return self.seconds[kind] or usual[kind] or 10
end

local function observed(self, kind, since)
  local took = ticker.now() - since
  local before = self.seconds[kind]
  self.seconds[kind] = before and (before + took) / 2 or took
end

---Waits for a droplet until `seen` finds something. It may take a while until a new one is in the
---list; one that was there and is not any more is gone.
---Raises `timeout`, `failed` when it is gone or was never made, and what `seen` raises.
---@async
---@param spec { id: integer, what: string, kind: string, within: number,
---  seen: (fun(droplet: table): any), late: (fun())? } `late` is called now and then when it takes
---  longer than usual
---@return any found
function Wait:droplet(spec)
  learn(self)
  local started = ticker.now()
  local expected = self:expected(spec.kind)
  local next_late, known = started + 1.5 * expected + 5, spec.known
  local found = self.fleet:wait {
    what = spec.what, expected = expected, within = spec.within,
    seen = function(view)
      local droplet = view[spec.id]
      local now = ticker.now()
      if droplet then
        known = true
        local value = spec.seen(droplet)
        if value ~= nil then return value end
      elseif known or now - started > math.max(60, expected) then
        if not self.api:find("/v2/droplets/" .. spec.id) then
          error_.raise { kind = "failed", message = ("%s: DigitalOcean has no droplet %d any more: "
            .. "it was accepted and could not be placed, or somebody deleted it")
            :format(spec.what, spec.id) }
        end
      end
      if spec.late and now >= next_late then
        next_late = now + 10
        spec.late()
      end
    end,
  }
  observed(self, spec.kind, started)
  return found
end

---Waits until an action is over. Raises `failed` when DigitalOcean gave it up, `timeout`.
---@async
---@param action table as the API gave it
---@param what string named in the errors
---@param opts? { within: number?, settled: (fun(): boolean)? } seconds (600); whether what the
---  action is for has come true, asked while the API does not know the action (yet)
---@return table action
function Wait:action(action, what, opts)
  opts = opts or {}
  learn(self)
  local started = ticker.now()
  local watch = ticker.new(function()
    return { action = self.api:find("/v2/actions/" .. action.id) }
  end, { slower = self.slower, grid = self:expected(action.type) <= 15 and 0.25 or nil })
  local done = watch:wait {
    what = ("%s (action %d; see it with `doctl compute action get %d`)"):format(what, action.id,
      action.id),
    expected = self:expected(action.type), within = opts.within or 600,
    seen = function(view)
      local now = view.action and view.action.action
      if not now then
        return opts.settled and opts.settled() and { id = action.id, status = "completed" } or nil
      end
      if now.status == "errored" then
        error_.raise { kind = "failed", action = now.id,
          message = ("%s: DigitalOcean gave it up (action %d, %s: errored)"):format(what, now.id,
            now.type) }
      end
      return now.status == "completed" and now or nil
    end,
  }
  observed(self, action.type, started)
  return done
end

---Waits until what a path answers is as wanted.
---@async
---@param spec { path: string, what: string, kind: string, within: number, grid: number?,
---  seen: (fun(answer: table?): any) } `seen` gets nil while the API does not know it (yet)
---@return any found
function Wait:answer(spec)
  local started = ticker.now()
  local watch = ticker.new(function()
    return { answer = self.api:find(spec.path) }
  end, { grid = spec.grid, slower = self.slower })
  local found = watch:wait {
    what = spec.what, expected = self:expected(spec.kind), within = spec.within,
    seen = function(view) return spec.seen(view.answer) end,
  }
  observed(self, spec.kind, started)
  return found
end

return wait
