---Droplets: made many by one request, found again by their token, switched off, destroyed.
local error_ = require "kiln.error"
local json = require "kiln.json"
local create = require "providers.digitalocean.create"
local naming = require "providers.digitalocean.naming"

local droplets = {}

local states = { new = "new", active = "running", off = "stopped", archive = "stopped" }
local most_names = 10 -- of one request

local function address_of(droplet, kind)
  local networks = type(droplet.networks) == "table" and droplet.networks.v4 or {}
  for _, network in ipairs(networks) do
    if network.type == kind then return network.ip_address end
  end
end

---Makes the contract's row of a droplet.
---@param droplet table
---@return table row
function droplets.row(droplet)
  local tags, token = naming.read(droplet.tags, droplet.name)
  local image = type(droplet.image) == "table" and droplet.image or {}
  return {
    id = tostring(droplet.id), name = droplet.name, state = states[droplet.status] or "new",
    address = address_of(droplet, "public") or "", private = address_of(droplet, "private"),
    image = type(image.slug) == "string" and image.slug or tostring(image.id), tags = tags,
    token = token, created = naming.epoch(droplet.created_at),
    monthly = type(droplet.size) == "table" and tonumber(droplet.size.price_monthly) or nil,
  }
end

---Notes what messages and the end of a droplet need, wherever one is seen.
local function remember(self, droplet)
  local row = droplets.row(droplet)
  self.names[droplet.id] = row.name
  self.token_tags[droplet.id] = row.token and naming.token_tag(row.token, row.name) or false
  return row
end

local function sorted(rows)
  table.sort(rows, function(a, b)
    if a.created ~= b.created then return (a.created or 0) < (b.created or 0) end
    return math.tointeger(tonumber(a.id)) < math.tointeger(tonumber(b.id))
  end)
  return rows
end

---Lists kiln's machines; those that are being destroyed do not count.
---@async
---@param self kiln.digitalocean.Driver
---@param filter? { tag: string? } "key" or "key=value"
---@return table[]
function droplets.list(self, filter)
  local key, value = nil, nil
  if filter and filter.tag then key, value = filter.tag:match("^([^=]*)=?(.*)$") end
  local valued = filter and filter.tag and filter.tag:find("=", 1, true)
  local rows = {}
  for id, droplet in pairs(self.wait:droplets()) do
    local row = remember(self, droplet)
    local has = key == nil or row.tags[key] ~= nil and (not valued or row.tags[key] == value)
    if has and not self.leaving[id] then rows[#rows + 1] = row end
  end
  return sorted(rows)
end

local function number_of(id)
  return math.tointeger(tonumber(id))
end

---Gives a machine by its id.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@return table?
function droplets.get(self, id)
  local number = number_of(id)
  if not number or self.leaving[number] then return nil end
  local answer = self.api:find("/v2/droplets/" .. number)
  return answer and droplets.row(answer.droplet)
end

---Gives the machine that was created with a token.
---@async
---@param self kiln.digitalocean.Driver
---@param token string
---@return table?
function droplets.find(self, token)
  for _, row in ipairs(droplets.list(self)) do
    if row.token == token then return row end
  end
end

---Sorts what is there of the wanted machines from what is missing.
local function already(self, specs)
  local by_token, missing = {}, {}
  for _, row in ipairs(droplets.list(self)) do
    if row.token then by_token[row.token] = row end
  end
  for _, spec in ipairs(specs) do
    if not by_token[spec.token] then missing[#missing + 1] = spec end
  end
  return by_token, missing
end

local function request_body(self, specs)
  local first, names = specs[1], {}
  local tags = naming.tags_of(first.tags or {})
  tags[#tags + 1] = naming.ours
  for index, spec in ipairs(specs) do
    names[index] = spec.name
    tags[#tags + 1] = naming.token_tag(spec.token, spec.name)
  end
  local keys = json.array(table.move(self.options.ssh_keys, 1, #self.options.ssh_keys, 1, {}))
  if first.user_public then keys[#keys + 1] = self.keys:fingerprint(first.user_public) end
  local body = {
    region = self.options.region, size = first.size or self.options.size,
    image = number_of(first.image) or first.image, ssh_keys = keys, tags = json.array(tags),
    user_data = first.user_data, monitoring = self.options.monitoring,
    vpc_uuid = self.options.vpc, backups = false,
  }
  if #names == 1 then body.name = names[1] else body.names = json.array(names) end
  return body
end

local function check(self, specs)
  local most = self.limits.user_data
  for _, spec in ipairs(specs) do
    local user_data = spec.user_data or ""
    if #user_data > most then
      error_.raise { kind = "limit", message = ("the user-data of %s has %d bytes, DigitalOcean "
        .. "takes %d: put what is large into the image"):format(spec.name, #user_data,
        most) }
    end
  end
end

---What the API says about an image that it does not have, in the words of the contract.
local function refused(err, spec)
  if error_.is(err, "invalid") and err.said:find("invalid image", 1, true) then
    err.kind = "not_found"
    err.message = ("there is no image %s for %s: %s"):format(spec.image, spec.name, err.message)
  end
  error(err, 0)
end

---One request for at most ten machines. After a lost answer they are looked for by their tags.
local function create_some(self, specs)
  local wanted = {}
  for _, spec in ipairs(specs) do wanted[spec.token] = true end
  local ok, rows = xpcall(create, error_.from, self.api, {
    path = "/v2/droplets", body = request_body(self, specs),
    read = function(answer)
      local made = {}
      for index, droplet in ipairs(answer.droplets or { answer.droplet }) do
        made[index] = remember(self, droplet)
      end
      return made
    end,
    find = function()
      local found = {}
      for _, row in ipairs(droplets.list(self)) do
        if wanted[row.token or ""] then found[#found + 1] = row end
      end
      return #found > 0 and found or nil
    end,
  })
  if not ok then refused(rows, specs[1]) end
  return rows
end

---Creates machines that differ in name and token only; those that are there already are taken as
---they are. They are accepted, not ready: `await` waits.
---Raises `not_found` (no such image), `limit`, `invalid`.
---@async
---@param self kiln.digitalocean.Driver
---@param specs { name: string, token: string, image: string, size: string?, tags: table?,
---  user_data: string?, user_public: string? }[]
---@return table[] machines in the order of the specs
function droplets.create_many(self, specs)
  check(self, specs)
  local by_token, missing = already(self, specs)
  local at = 1
  while at <= #missing do
    local some = table.move(missing, at, math.min(at + most_names - 1, #missing), 1, {})
    for _, row in ipairs(create_some(self, some)) do
      if row.token then by_token[row.token] = row end
    end
    at = at + #some
  end
  local rows = {}
  for index, spec in ipairs(specs) do
    local row = by_token[spec.token]
    if not row then
      error_.raise { kind = "failed", message = ("DigitalOcean accepted %s together with others "
        .. "and made only those"):format(spec.name) }
    end
    rows[index] = row
  end
  self.project:adopt(rows, "droplet")
  return rows
end

---Creates one machine.
---@async
---@param self kiln.digitalocean.Driver
---@param spec table as in `create_many`
---@return table machine
function droplets.create(self, spec)
  return droplets.create_many(self, { spec })[1]
end

local function raise_if_errored(self, number, kind, what)
  local answer = self.api:find(("/v2/droplets/%d/actions?per_page=20"):format(number))
  for _, action in ipairs(answer and answer.actions or {}) do
    if action.type == kind and action.status == "errored" then
      error_.raise { kind = "failed", message = ("%s: DigitalOcean gave it up (action %d, %s: "
        .. "errored)"):format(what, action.id, kind) }
    end
  end
end

---Waits until a machine runs and has an address: "active" alone may come before the address.
---Raises `failed` when it was accepted and is gone or given up, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param within? number seconds (300)
---@return table machine
function droplets.await(self, id, within)
  local number = number_of(id)
  local what = "machine " .. (self.names[number] or tostring(id))
  if not number then
    error_.raise { kind = "not_found", message = ("there is no machine %s"):format(id) }
  end
  return self.wait:droplet {
    id = number, what = what, kind = "create", within = within or 300,
    seen = function(droplet)
      local row = droplets.row(droplet)
      if row.state == "stopped" or row.state == "running" and row.address ~= "" then return row end
    end,
    late = function() raise_if_errored(self, number, "create", what) end,
  }
end

local function until_off(self, number, within)
  local ok, err = xpcall(self.wait.droplet, error_.from, self.wait, {
    id = number, what = "switching off droplet " .. number, kind = "off", within = within,
    known = true,
    seen = function(droplet) return droplet.status == "off" and droplet or nil end,
  })
  if not ok and not error_.is(err, "timeout") then error(err, 0) end
  return ok, err
end

local function ask_off(self, number, how)
  local ok, err = xpcall(self.api.serial, error_.from, self.api, "POST",
    ("/v2/droplets/%d/actions"):format(number), { type = how }, { within = 300 })
  if ok or err.effect == "maybe" or (err.said or ""):find("already", 1, true) then return end
  error(err, 0)
end

---Switches a machine off in good order and waits until it is. A shutdown is only a request to the
---guest; when that does not follow, its power is cut. Raises `not_found`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param opts? { told: boolean? } the guest was told over SSH already (false)
function droplets.power_off(self, id, opts)
  local row = droplets.get(self, id)
  if not row then
    error_.raise { kind = "not_found", message = ("there is no machine %s to switch off")
      :format(id) }
  end
  if row.state == "stopped" then return end
  local number = number_of(id)
  if row.state == "new" then droplets.await(self, id) end
  if opts and opts.told and until_off(self, number, 40) then return end
  ask_off(self, number, "shutdown")
  if until_off(self, number, 60) then return end
  ask_off(self, number, "power_off")
  local off, err = until_off(self, number, 300)
  if off then return end
  raise_if_errored(self, number, "power_off", "switching off " .. row.name)
  error(err, 0)
end

---Destroys a machine; one that is gone already is fine. DigitalOcean accepts that at once and shows
---the droplet for a while longer; this driver does not.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
function droplets.destroy(self, id)
  local number = number_of(id)
  if not number or self.leaving[number] then return end
  if self.token_tags[number] == nil then
    local answer = self.api:find("/v2/droplets/" .. number)
    if not answer then return end
    remember(self, answer.droplet)
  end
  self.api:delete("/v2/droplets/" .. number)
  self.leaving[number] = true
  local tag = self.token_tags[number]
  if tag then self.api:delete("/v2/tags/" .. tag) end
end

return droplets
