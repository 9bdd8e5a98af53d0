---Tags: made on the fly with what carries them, or by themselves; images only take one that exists.
local json = require "kiln.json"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"

local tags = {}

-- resource_type of the API, the world's collection, the counter's name in a tag's `resources`.
local kinds = {
  droplet = { "droplets", "droplets" },
  image = { "images", "images" },
  volume = { "volumes", "volumes" },
  volume_snapshot = { "volume_snapshots", "volume_snapshots" },
  database = { "databases", "databases" },
}

---Tells whether a row carries a tag; tags differ by more than their case.
---@param row table
---@param name string
---@return boolean
function tags.has(row, name)
  for _, tag in ipairs(row.tags or {}) do
    if tag:lower() == name:lower() then return true end
  end
  return false
end

local function check_name(name)
  if not name:find("^[%w_%-:]+$") or #name > 255 then
    reply.unprocessable("Tag name is invalid: it may only have letters, digits, ':', '-' and '_'")
  end
end

---Makes sure that tags exist; the first spelling of a tag stays.
---@param world kiln.do.sim.World
---@param names string[]
---@return string[] names as the account spells them, each once
function tags.ensure(world, names)
  local spelled, seen = json.array {}, {}
  for _, name in ipairs(names) do check_name(name) end
  for _, name in ipairs(names) do
    local tag = world.tags:get(name:lower())
      or world.tags:add { id = name:lower(), name = name }
    if not seen[tag.name] then spelled[#spelled + 1] = tag.name end
    seen[tag.name] = true
  end
  return spelled
end

local function show(world, tag, base)
  local resources, last = { count = 0 }, nil
  for _, kind in pairs(kinds) do
    local rows = world[kind[1]]:list(function(row) return tags.has(row, tag.name) end)
    local latest = rows[#rows]
    local entry = { count = #rows }
    if latest then
      entry.last_tagged_uri = ("%s/v2/%s/%s"):format(base, kind[1], latest.id)
      last = last or entry.last_tagged_uri
    end
    resources[kind[2]] = entry
    resources.count = resources.count + #rows
  end
  resources.last_tagged_uri = last
  return { name = tag.name, resources = resources }
end

local function existing(world, request)
  local tag = world.tags:get(request.name:lower())
  if not tag then reply.not_found() end
  return tag
end

local function untag(row, name)
  local left = json.array {}
  for _, tag in ipairs(row.tags or {}) do
    if tag:lower() ~= name:lower() then left[#left + 1] = tag end
  end
  row.tags = left
end

local function create(world, request)
  local name = input.text(request.body, "name", true)
  local spelled = tags.ensure(world, { name })[1]
  return reply.json(201, { tag = show(world, world.tags:get(spelled:lower()), request.base) })
end

local function remove(world, request)
  local tag = existing(world, request)
  for _, kind in pairs(kinds) do
    for _, row in ipairs(world[kind[1]].rows) do untag(row, tag.name) end
  end
  world.tags:remove(tag.id)
  return reply.none()
end

---Finds every resource of the list first: all of them change, or none.
local function resources(world, request)
  local rows = {}
  for _, item in ipairs(input.list(request.body, "resources")) do
    local kind = type(item) == "table" and kinds[item.resource_type]
    if not kind then reply.unprocessable("resource_type is invalid") end
    local row = world[kind[1]]:get(item.resource_id)
    if not row then reply.not_found() end
    rows[#rows + 1] = row
  end
  return rows
end

local function attach(world, request)
  local tag = existing(world, request)
  for _, row in ipairs(resources(world, request)) do
    if not tags.has(row, tag.name) then
      row.tags = row.tags or json.array {}
      table.insert(row.tags, tag.name)
    end
  end
  return reply.none()
end

local function detach(world, request)
  local tag = existing(world, request)
  for _, row in ipairs(resources(world, request)) do untag(row, tag.name) end
  return reply.none()
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function tags.routes(add)
  add("GET", "/v2/tags", function(world, request)
    return reply.page(request, "tags", world.tags.rows, function(tag)
      return show(world, tag, request.base)
    end)
  end)
  add("POST", "/v2/tags", create)
  add("GET", "/v2/tags/{name}", function(world, request)
    return reply.json(200, { tag = show(world, existing(world, request), request.base) })
  end)
  add("DELETE", "/v2/tags/{name}", remove)
  add("POST", "/v2/tags/{name}/resources", attach)
  add("DELETE", "/v2/tags/{name}/resources", detach)
end

return tags
