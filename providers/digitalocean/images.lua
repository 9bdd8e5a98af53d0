---Images: base images by slug, snapshots by name and token, their data in tags, copies, retention.
---
---A snapshot cannot be tagged before it is there, and the action that makes it does not tell its id
---(https://docs.digitalocean.com/reference/api/). So its name carries the token, and it counts as
---whole only when all of its data is in its tags.
local error_ = require "kiln.error"
local scope = require "kiln.scope"
local ticker = require "kiln.ticker"
local create = require "providers.digitalocean.create"
local naming = require "providers.digitalocean.naming"

local images = {}

local function split_name(full)
  local name, token = tostring(full):match("^(.-) %[(.*)%]$")
  return name or full, token
end

local function full_name(spec)
  return ("%s [%s]"):format(spec.name, spec.token)
end

---Makes the contract's row of an image.
---@param image table
---@return table row
function images.row(image)
  local name, token = split_name(image.name)
  local slug = type(image.slug) == "string" and image.slug or nil
  return {
    id = slug or tostring(image.id), name = slug or name, token = token,
    created = naming.epoch(image.created_at) or 0, data = naming.read_data(image.tags) or {},
    bytes = math.tointeger((tonumber(image.size_gigabytes) or 0) * 1000000000 // 1),
    regions = image.regions, tags = (naming.read(image.tags, "")),
  }
end

---Base images may be named as on other clouds: "debian-13" is debian-13-x64 here.
local function slug_of(name)
  return name:find("^%l+%-[%d%-]+$") and name .. "-x64" or name
end

---Finds a base image that this region has.
---@async
---@param self kiln.digitalocean.Driver
---@param name string a slug, or "debian-13"
---@return table? image
function images.find_base(self, name)
  if not name:find("^[%w%-%._]+$") then return nil end
  local answer = self.api:find("/v2/images/" .. slug_of(name))
  if not answer then return nil end
  local row = images.row(answer.image)
  row.name, row.detail = name, row.id
  return row
end

---Gives a base image. Raises `not_found`.
---@async
---@param self kiln.digitalocean.Driver
---@param name string
---@return table image
function images.base(self, name)
  local row = images.find_base(self, name)
  if row then return row end
  error_.raise { kind = "not_found", message = ("DigitalOcean has no base image '%s' (asked for "
    .. "%s); `doctl compute image list-distribution` lists them"):format(name, slug_of(name)) }
end

---Lists the account's snapshots that kiln made and that are whole, oldest first.
---@async
---@param self kiln.digitalocean.Driver
---@return table[]
function images.list(self)
  local rows = {}
  for _, image in ipairs(self.api:list("/v2/images?private=true", "images")) do
    if split_name(image.name) ~= image.name and naming.read_data(image.tags)
      and not self.leaving["image " .. image.id] then
      rows[#rows + 1] = images.row(image)
    end
  end
  table.sort(rows, function(a, b)
    return a.created ~= b.created and a.created < b.created
      or a.created == b.created and tonumber(a.id) < tonumber(b.id)
  end)
  return rows
end

---Finds an image by name or token.
---@async
---@param self kiln.digitalocean.Driver
---@param key { name: string?, token: string? }
---@return table?
function images.find(self, key)
  for _, row in ipairs(images.list(self)) do
    if key.token and row.token == key.token or key.name and (row.name == key.name
      or row.id == key.name) then return row end
  end
end

local unlisted = 15 -- seconds that a finished snapshot may be missing from the lists

---Finds a snapshot of a droplet by its full name, finished, or running as an action: any that runs,
---or one newer than the action `after`. One that has just finished is in no list for a moment: when
---fewer are listed than were taken, the list is read again for a while.
---@return table? found { id = } or { action = }
---@return integer newest action's id
local function begun(self, number, name, after)
  local started, newest = ticker.now(), 0
  while true do
    local answer = self.api:find(("/v2/droplets/%d/snapshots?per_page=100"):format(number))
    local listed = answer and answer.snapshots or {}
    for _, one in ipairs(listed) do
      if one.name == name then return { id = math.tointeger(tonumber(one.id)) }, 0 end
    end
    answer = self.api:find(("/v2/droplets/%d/actions?per_page=50"):format(number))
    local taken = 0
    for _, action in ipairs(answer and answer.actions or {}) do
      newest = math.max(newest, action.id)
      if action.type == "snapshot" and action.status ~= "errored" then
        if action.status == "in-progress" or after and action.id > after then
          return { action = action }, newest
        end
        taken = taken + 1
      end
    end
    if taken <= #listed or ticker.now() - started > unlisted then return nil, newest end
    ticker.pause(1)
  end
end

---Writes data into the tags of an image. Tags are made first, then attached: the API refuses an
---unknown one.
local function attach(self, id, tags)
  scope.all(tags, function(tag)
    self.tags:resources("POST", tag, "image", { id })
  end, { at_once = 8 })
end

local function make_tags(self, tags)
  scope.all(tags, function(tag) self.tags:make(tag) end, { at_once = 8 })
end

---Takes the snapshot, or follows the one that an earlier attempt began.
local function take(self, number, name)
  local answer = self.api:find("/v2/droplets/" .. number)
  if not answer then
    error_.raise { kind = "not_found", message = ("there is no machine %d to freeze")
      :format(number) }
  end
  if answer.droplet.status ~= "off" then
    error_.raise { kind = "invalid", message = ("machine %s is not switched off: a snapshot now "
      .. "would hold half-written files"):format(answer.droplet.name) }
  end
  local there, newest = begun(self, number, name)
  if there then return there end
  return create(self.api, {
    path = ("/v2/droplets/%d/actions"):format(number), body = { type = "snapshot", name = name },
    read = function(reply) return { action = reply.action } end,
    find = function() return (begun(self, number, name, newest)) end,
  })
end

local function image_id(self, number, name)
  local path = ("/v2/droplets/%d/snapshots?per_page=100"):format(number)
  local function seen(answer)
    for _, one in ipairs(answer and answer.snapshots or {}) do
      if one.name == name then return math.tointeger(tonumber(one.id)) end
    end
  end
  return seen(self.api:find(path)) or self.wait:answer {
    path = path, kind = "listing", within = 60, seen = seen,
    what = "the snapshot " .. name .. ", which DigitalOcean says is taken",
  }
end

---Freezes a switched-off machine into an image; one that was begun with the same name and token is
---taken over. Raises `not_found`, `invalid` (it runs), `failed`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { machine: string, name: string, token: string, tags: table?, data: table? }
---@return table image
function images.snapshot(self, spec)
  local number, name = math.tointeger(tonumber(spec.machine)), full_name(spec)
  local taken = take(self, number, name)
  local tags = naming.data_tags(spec.data or {}, spec.token)
  for _, tag in ipairs(naming.tags_of(spec.tags or {})) do table.insert(tags, 1, tag) end
  table.insert(tags, 1, naming.ours)
  make_tags(self, tags) -- while the snapshot is taken
  if taken.action then
    self.wait:action(taken.action, "snapshot " .. spec.name, { within = 3600 })
  end
  local id = taken.id or image_id(self, number, name)
  attach(self, id, tags)
  return images.row(self.api:call("GET", "/v2/images/" .. id).image)
end

---Removes what an interrupted `snapshot` began: one that is being taken is waited for, since it
---cannot be called off. Fine when nothing was begun.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { machine: string, name: string, token: string }
function images.discard(self, spec)
  local number, name = math.tointeger(tonumber(spec.machine)), full_name(spec)
  local there = number and begun(self, number, name)
  if not there then return end
  if there.action then
    self.wait:action(there.action, "snapshot " .. spec.name, { within = 3600 })
  end
  images.destroy(self, tostring(there.id or image_id(self, number, name)))
end

---Copies an image to another region: the id stays, its `regions` grow. Raises `failed`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param regions string[]
function images.copy(self, id, regions)
  local image = self.api:call("GET", "/v2/images/" .. id).image
  local there = {}
  for _, region in ipairs(image.regions) do there[region] = true end
  local missing = {}
  for _, region in ipairs(regions) do
    if not there[region] then missing[#missing + 1] = region end
  end
  scope.all(missing, function(region)
    local action = create(self.api, {
      path = ("/v2/images/%s/actions"):format(id), body = { type = "transfer", region = region },
      read = function(answer) return answer.action or answer end,
      find = function()
        local answer = self.api:find(("/v2/images/%s/actions?per_page=20"):format(id))
        for _, one in ipairs(answer and answer.actions or {}) do
          local same = one.type == "transfer" and one.region_slug == region
          if same and one.status == "in-progress" then return one end
        end
      end,
    })
    self.wait:action(action, ("copying image %s to %s"):format(id, region), { within = 3600 })
  end)
end

---Deletes an image; one that is gone already is fine. Its data's tags go with it.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
function images.destroy(self, id)
  local number = math.tointeger(tonumber(id))
  local answer = number and self.api:find("/v2/images/" .. number)
  if not answer then return end
  self.api:delete("/v2/images/" .. number)
  self.leaving["image " .. number] = true
  local gone = {}
  for _, tag in ipairs(type(answer.image.tags) == "table" and answer.image.tags or {}) do
    if tag:find("^kiln%-data:") or tag:find("^kiln%-whole:") then gone[#gone + 1] = tag end
  end
  scope.all(gone, function(tag) self.api:delete("/v2/tags/" .. tag) end, { at_once = 8 })
end

return images
