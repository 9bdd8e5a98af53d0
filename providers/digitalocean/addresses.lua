---Reserved IPs as floating addresses. They have neither name nor tag of their own: a tag of the
---account, `kiln-address:<name>:<ip>`, remembers which name one has.
local error_ = require "kiln.error"
local ticker = require "kiln.ticker"
local create = require "providers.digitalocean.create"
local naming = require "providers.digitalocean.naming"

local addresses = {}

local function row_of(reserved, known)
  local droplet = type(reserved.droplet) == "table" and reserved.droplet or nil
  return {
    id = reserved.ip, ip = reserved.ip, name = known and known.name, tags = known and known.tags,
    target = droplet and tostring(droplet.id),
    region = type(reserved.region) == "table" and reserved.region.slug or nil,
  }
end

local function names(self)
  local by_ip = {}
  for _, tag in ipairs(self.api:list("/v2/tags", "tags")) do
    local known = naming.read_address(tag.name)
    if known then by_ip[known.ip] = known end
  end
  return by_ip
end

---Lists the addresses that kiln named.
---@async
---@param self kiln.digitalocean.Driver
---@return table[]
function addresses.list(self)
  local by_ip, rows = names(self), {}
  for _, reserved in ipairs(self.api:list("/v2/reserved_ips", "reserved_ips")) do
    if by_ip[reserved.ip] then rows[#rows + 1] = row_of(reserved, by_ip[reserved.ip]) end
  end
  return rows
end

---Finds an address by name.
---@async
---@param self kiln.digitalocean.Driver
---@param name string
---@return table?
function addresses.find(self, name)
  for _, row in ipairs(addresses.list(self)) do
    if row.name == name then return row end
  end
end

---Lists the machines that a reserved IP leads to, whoever made it.
---@async
---@param self kiln.digitalocean.Driver
---@return string[] ids
function addresses.targets(self)
  local ids = {}
  for _, reserved in ipairs(self.api:list("/v2/reserved_ips", "reserved_ips")) do
    ids[#ids + 1] = row_of(reserved).target
  end
  return ids
end

---Lists the ips that are there now, named or not: what a lost creation made is not among them.
---@async
---@param self kiln.digitalocean.Driver
---@return string[]
function addresses.known(self)
  local ips = {}
  for index, reserved in ipairs(self.api:list("/v2/reserved_ips", "reserved_ips")) do
    ips[index] = reserved.ip
  end
  return ips
end

---Finds the one address that nobody has named, that points nowhere, and that was not known.
local function newcomer(self, known)
  local by_ip, before = names(self), {}
  for _, ip in ipairs(known) do before[ip] = true end
  local found
  for _, reserved in ipairs(self.api:list("/v2/reserved_ips", "reserved_ips")) do
    local row = row_of(reserved)
    if not before[row.ip] and not by_ip[row.ip] and not row.target
      and row.region == self.options.region then
      if found then
        error_.raise { kind = "exists", message = ("two new reserved IPs appeared, %s and %s, and "
          .. "only one is kiln's: release the one that is nobody's, then go on"):format(found.ip,
          row.ip) }
      end
      found = row
    end
  end
  return found
end

---Makes an address; one of that name is taken as it is.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, token: string?, known: string[]?, settle: boolean?, tags: table? }
---  ips that were there before; whether an earlier attempt may have made it (false); whose it is
---@return table address
function addresses.create(self, spec)
  local there = addresses.find(self, spec.name)
  if there then return there end
  local known = spec.known or addresses.known(self)
  local row = spec.settle and newcomer(self, known) or create(self.api, {
    path = "/v2/reserved_ips", body = { region = self.options.region },
    read = function(answer) return row_of(answer.reserved_ip) end,
    find = function() return newcomer(self, known) end,
  })
  row.name, row.tags, row.region = spec.name, spec.tags, nil
  local ok, err = xpcall(function()
    self.tags:make(naming.address_tag(spec.name, row.ip, spec.tags))
    self.project:adopt({ row }, "floatingip")
  end, error_.from)
  if ok then return row end
  err.effect = "maybe" -- whatever the last request did: the address is there
  error(err, 0)
end

local function reserved_ip(self, id)
  local answer = self.api:find("/v2/reserved_ips/" .. id)
  return answer and answer.reserved_ip
end

---A new address may take a while until every server of the API knows it.
local function soon(self, id)
  local deadline = ticker.now() + 30
  while true do
    local there = reserved_ip(self, id)
    if there or ticker.now() > deadline then return there end
    ticker.pause(1)
  end
end

local function target_of(self, id)
  local now = reserved_ip(self, id)
  return now and type(now.droplet) == "table" and now.droplet.id or nil
end

---Points an address to a machine, or to none. Raises `not_found`, `failed`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param machine_id? string
function addresses.assign(self, id, machine_id)
  local wanted = machine_id and math.tointeger(tonumber(machine_id))
  local now = soon(self, id)
  if not now or machine_id and not wanted then
    error_.raise { kind = "not_found", message = ("there is no %s %s"):format(
      now and "machine" or "reserved IP", now and machine_id or id) }
  end
  local current = type(now.droplet) == "table" and now.droplet.id or nil
  if current == wanted and not now.locked then return end
  local action = create(self.api, {
    path = ("/v2/reserved_ips/%s/actions"):format(id),
    body = wanted and { type = "assign", droplet_id = wanted } or { type = "unassign" },
    read = function(answer) return answer.action end,
    find = function() return target_of(self, id) == wanted and { done = true } or nil end,
  })
  if action.done then return end
  self.wait:action(action, ("pointing %s to %s"):format(id, machine_id or "nothing"), {
    within = 400, settled = function() return target_of(self, id) == wanted end,
  })
end

---Gives an address back; one that is gone already is fine.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
function addresses.destroy(self, id)
  if not id:find("^%d+%.%d+%.%d+%.%d+$") then return end
  self.api:delete("/v2/reserved_ips/" .. id)
  local known = names(self)[id]
  if known then
    self.api:delete("/v2/tags/" .. known.tag)
    self.tags.made[known.tag] = nil
  end
end

return addresses
