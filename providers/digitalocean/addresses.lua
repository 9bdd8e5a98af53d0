---Reserved IPs as floating addresses. They have neither name nor tag of their own: a tag of the
---account, `kiln-address:<name>:<ip>…`, remembers which name one has, whose it is, and the token of
---its creation. Before it has this tag, a mark tells it from others' (marks.lua).
local error_ = require "kiln.error"
local ticker = require "kiln.ticker"
local create = require "providers.digitalocean.create"
local marks = require "providers.digitalocean.marks"
local naming = require "providers.digitalocean.naming"

local addresses = {}

local function row_of(reserved, known)
  local droplet = type(reserved.droplet) == "table" and reserved.droplet or nil
  return {
    id = reserved.ip, ip = reserved.ip, name = known and known.name, tags = known and known.tags,
    token = known and known.token,
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

---Refuses to go on where an address without a mark may be that of a creation whose answer is lost:
---nobody can tell whether one that appeared meanwhile is another's. Raises `in_doubt`.
local function check_newcomers(self, spec)
  local by_ip, before, ips = names(self), {}, {}
  for _, ip in ipairs(spec.known or {}) do before[ip] = true end
  for _, reserved in ipairs(self.api:list("/v2/reserved_ips", "reserved_ips")) do
    local row = row_of(reserved)
    if not before[row.ip] and not by_ip[row.ip] and not row.target
      and row.region == self.options.region then
      ips[#ips + 1] = row.ip
    end
  end
  if #ips == 0 then return end
  error_.raise { kind = "in_doubt", effect = "maybe", message = ("address %s: whether a reserved "
    .. "IP was made for it is not known; it may be %s, which appeared meanwhile and has no name, "
    .. "or that is somebody else's: release it if it is nobody's, or point it to what needs it, "
    .. "then go on"):format(spec.name, table.concat(ips, " or ")) }
end

---Makes the reserved IP, or takes the one that an earlier attempt made under the mark.
local function reserve(self, spec, mark)
  local function find()
    if not mark then return check_newcomers(self, spec) end
    local reserved = marks.reserved(self, mark)[1]
    return reserved and row_of(reserved)
  end
  local there = (mark or spec.in_doubt) and find()
  return there or create(self.api, {
    path = "/v2/reserved_ips", body = { region = self.options.region, project_id = mark },
    read = function(answer) return row_of(answer.reserved_ip) end, find = find,
  })
end

---Makes an address; one of that name is taken as it is.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, token: string?, known: string[]?, in_doubt: boolean?,
---  tags: table? } ips that were there before; whether an earlier process may have made it (false);
---  whose it is
---@return table address
function addresses.create(self, spec)
  local token = spec.token or "kl-address-" .. spec.name
  local row = addresses.find(self, spec.name)
  if row and row.token ~= token then return row end
  local find_mark = row and marks.find or marks.take
  local mark = find_mark(self, token)
  row = row or reserve(self, {
    name = spec.name, known = spec.known or addresses.known(self), in_doubt = spec.in_doubt,
  }, mark)
  row.name, row.tags, row.token, row.region = spec.name, spec.tags, token, nil
  local ok, err = xpcall(function()
    self.tags:make(naming.address_tag(spec.name, row.ip, spec.tags, token))
    if mark then marks.remove(self, mark, row.ip) else self.project:adopt({ row }, "floatingip") end
  end, error_.from)
  if ok then return row end
  err.effect = "maybe" -- whatever the last request did: the address is there
  error(err, 0)
end

---Removes what a creation left that failed or was interrupted. Raises `in_doubt` where an address
---may be of this creation and nobody can tell.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, token: string, known: string[]? } as `create` had it
---@return boolean there whether anything was there
function addresses.discard(self, spec)
  local there = false
  for _, row in ipairs(addresses.list(self)) do
    if row.token == spec.token then
      addresses.destroy(self, row.id)
      there = true
    end
  end
  local mark = marks.find(self, spec.token)
  if mark then marks.remove(self, mark) end
  if mark or there then return true end
  local ok, err = xpcall(check_newcomers, error_.from, self, spec)
  if ok then return false end
  if not error_.is(err, "in_doubt") then error(err, 0) end
  -- Where projects may be made, the creation had a mark before it asked for an address.
  mark = marks.take(self, spec.token)
  if not mark then error(err, 0) end
  marks.remove(self, mark)
  return false
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
