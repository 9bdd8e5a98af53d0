---Load balancers: found by name, members by id up to five or by tag above, one change at a time.
---
---https://docs.digitalocean.com/products/networking/load-balancers/details/limits/. A PUT replaces
---everything that it does not repeat, so members change by POST and DELETE only. The API does not
---tell which members are healthy: that is asked from outside, by the recipe's probes.
local json = require "kiln.json"
local ticker = require "kiln.ticker"
local error_ = require "kiln.error"
local create = require "providers.digitalocean.create"
local naming = require "providers.digitalocean.naming"

local balancers = {}

local most_by_id = 5 -- ten are allowed, and during a swap the old and the new are members
local busy_within = 300 -- seconds that changes before ours may take

local function number_list(ids)
  local numbers = json.array {}
  for index, id in ipairs(ids) do numbers[index] = math.tointeger(tonumber(id)) end
  return numbers
end

local function row_of(balancer)
  local members = json.array {}
  for index, id in ipairs(balancer.droplet_ids or {}) do members[index] = tostring(id) end
  local rule = (balancer.forwarding_rules or {})[1] or {}
  return {
    id = balancer.id, name = balancer.name, ip = balancer.ip or "", members = members,
    state = balancer.status, port = rule.entry_port,
    tag = balancer.tag ~= "" and balancer.tag or nil, health = balancer.health_check,
  }
end

---Lists the account's load balancers, whoever made them: they have no labels.
---@async
---@param self kiln.digitalocean.Driver
---@return table[]
function balancers.list(self)
  local rows = {}
  for index, one in ipairs(self.api:list("/v2/load_balancers", "load_balancers")) do
    rows[index] = row_of(one)
  end
  return rows
end

---Finds a load balancer by name.
---@async
---@param self kiln.digitalocean.Driver
---@param name string
---@return table?
function balancers.find(self, name)
  for _, row in ipairs(balancers.list(self)) do
    if row.name == name then return row end
  end
end

local function body_of(self, spec)
  local health = spec.health or {}
  local by_tag = (spec.count or 1) > most_by_id
  return {
    name = spec.name, region = self.options.region, vpc_uuid = self.options.vpc,
    forwarding_rules = json.array { {
      entry_protocol = "http", entry_port = spec.port or 80, target_protocol = "http",
      target_port = spec.target_port or health.port or 80,
    } },
    -- Twice in a row, every 3 s: a new member serves after 6 s instead of the default's 30.
    health_check = {
      protocol = "http", port = health.port or 80, path = health.path or "/",
      check_interval_seconds = 3, response_timeout_seconds = 3, healthy_threshold = 2,
      unhealthy_threshold = 2,
    },
    tag = by_tag and "kiln-front:" .. naming.escape(spec.name) or nil,
    droplet_ids = not by_tag and json.array {} or nil,
  }
end

---Makes a load balancer; one of that name is taken as it is. It has no address yet: `await` waits.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, port: integer?, target_port: integer?, health: table?,
---  count: integer? } how many members it will have; above five they are found by tag
---@return table balancer
function balancers.create(self, spec)
  local there = balancers.find(self, spec.name)
  if there then return there end
  local row = create(self.api, {
    path = "/v2/load_balancers", body = body_of(self, spec),
    read = function(answer) return row_of(answer.load_balancer) end,
    find = function() return balancers.find(self, spec.name) end,
  })
  self.project:adopt({ row }, "loadbalancer")
  return row
end

---Waits until a load balancer has its address. Raises `failed`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@return table balancer
function balancers.await(self, id)
  return self.wait:answer {
    path = "/v2/load_balancers/" .. id, what = "load balancer " .. id, kind = "load_balancer",
    within = 600, grid = 1,
    seen = function(answer)
      local row = answer and row_of(answer.load_balancer)
      if row and row.state == "errored" then
        error_.raise { kind = "failed", message = ("load balancer %s: DigitalOcean gave it up")
          :format(row.name) }
      end
      return row and row.state == "active" and row.ip ~= "" and row or nil
    end,
  }
end

local function change(self, method, id, ids)
  if #ids == 0 then return end
  self.api:serial(method, ("/v2/load_balancers/%s/droplets"):format(id),
    { droplet_ids = number_list(ids) }, { within = busy_within, safe = true })
end

local function change_tags(self, method, tag, ids)
  self.tags:make(tag)
  if #ids > 0 then self.tags:resources(method, tag, "droplet", ids) end
end

local function difference(list, without)
  local drop, out = {}, {}
  for _, id in ipairs(without) do drop[id] = true end
  for _, id in ipairs(list) do
    if not drop[id] then out[#out + 1] = id end
  end
  return out
end

---Makes these machines the members: the new ones join, have the time that the health check needs to
---let them in, then the others leave. Raises `not_found`, `busy`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param ids string[] machines
function balancers.set_members(self, id, ids)
  local row = row_of(self.api:call("GET", "/v2/load_balancers/" .. id).load_balancer)
  local joining, leaving = difference(ids, row.members), difference(row.members, ids)
  local function move(method, list)
    if row.tag then change_tags(self, method, row.tag, list) else change(self, method, id, list) end
  end
  move("POST", joining)
  if #joining > 0 and #leaving > 0 then
    local health = row.health or {}
    local interval = tonumber(health.check_interval_seconds) or 10
    ticker.pause(interval * ((tonumber(health.healthy_threshold) or 3) + 1))
  end
  move("DELETE", leaving)
end

---Deletes a load balancer; one that is gone already is fine.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
function balancers.destroy(self, id)
  self.api:delete("/v2/load_balancers/" .. id)
end

return balancers
