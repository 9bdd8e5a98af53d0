---Block storage: volumes, attached and detached by actions, and their snapshots.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Block-Storage
local json = require "kiln.json"
local actions = require "providers.digitalocean.sim.actions"
local catalogue = require "providers.digitalocean.sim.catalogue"
local images = require "providers.digitalocean.sim.images"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"

local volumes = {}

local function show(world, volume)
  return {
    id = volume.id, name = volume.name, description = volume.description,
    size_gigabytes = volume.size_gigabytes, created_at = volume.created_at, tags = volume.tags,
    droplet_ids = volume.droplet_ids, filesystem_type = volume.filesystem_type,
    filesystem_label = volume.filesystem_label,
    region = catalogue.by_slug(world.regions, volume.region),
  }
end

local function existing(world, request)
  local volume = world:seen("volumes", request.id)
  if not volume then reply.not_found() end
  return volume
end

local function create(world, request)
  local body = request.body
  local snapshot = body.snapshot_id and world.volume_snapshots:get(body.snapshot_id)
  if body.snapshot_id and not snapshot then reply.unprocessable("snapshot was not found") end
  local slug = snapshot and snapshot.regions[1] or input.text(body, "region", true)
  local region = catalogue.by_slug(world.regions, slug)
  if not region or not region.available then reply.unprocessable("region is invalid") end
  local name = input.text(body, "name", true)
  if not name:find("^%l[%l%d%-]*$") or #name > 64 then
    reply.unprocessable("name must be lowercase, start with a letter, and have at most 64 letters")
  end
  local size = input.integer(body, "size_gigabytes", true)
  if size < 1 or size > 16384 then reply.unprocessable("size_gigabytes must be 1 to 16384") end
  if world.volumes:find(function(row) return row.name == name and row.region == slug end) then
    reply.refuse(409, "conflict", "a volume with this name already exists in this region")
  end
  if #world.volumes.rows >= world.limits.volumes then
    reply.refuse(403, "forbidden", "volume limit exceeded")
  end
  local volume = world:appear("volumes", {
    id = world:uuid(), name = name, region = slug, size_gigabytes = size,
    description = input.text(body, "description") or "", created_at = world:stamp(),
    tags = tags.ensure(world, input.texts(body, "tags")), droplet_ids = json.array {},
    filesystem_type = input.text(body, "filesystem_type") or "",
    filesystem_label = input.text(body, "filesystem_label") or "",
  })
  return reply.json(201, { volume = show(world, volume) })
end

local function refuse_attached(volume)
  if #volume.droplet_ids > 0 then
    reply.refuse(409, "conflict", "a volume that is attached cannot be deleted")
  end
end

local function remove(world, volume)
  refuse_attached(volume)
  world.volumes:remove(volume.id)
  return reply.none()
end

local function named(world, name, region)
  return world.volumes:find(function(row)
    return row.name == name and (not region or row.region == region)
  end)
end

local function without(list, value)
  for place = #list, 1, -1 do
    if list[place] == value then table.remove(list, place) end
  end
end

local function target_of(world, volume, body)
  local droplet = world:seen("droplets", input.integer(body, "droplet_id", true))
  if not droplet then reply.not_found() end
  if droplet.region.slug ~= volume.region then
    reply.unprocessable("The droplet and the volume must be in the same region.")
  end
  if droplet.event then reply.pending() end
  return droplet
end

---What an action does when it completes, by its type.
local prepare = {
  attach = function(world, volume, body)
    if #volume.droplet_ids > 0 then reply.unprocessable("The volume is already attached.") end
    local droplet = target_of(world, volume, body)
    return function()
      volume.droplet_ids = json.array { droplet.id }
      table.insert(droplet.volume_ids, volume.id)
    end
  end,
  detach = function(world, volume, body)
    local droplet = target_of(world, volume, body)
    if volume.droplet_ids[1] ~= droplet.id then
      reply.unprocessable("The volume is not attached to this droplet.")
    end
    return function()
      volume.droplet_ids = json.array {}
      without(droplet.volume_ids, volume.id)
    end
  end,
  resize = function(_, volume, body)
    local size = input.integer(body, "size_gigabytes", true)
    if size < volume.size_gigabytes then reply.unprocessable("A volume cannot shrink.") end
    return function() volume.size_gigabytes = size end
  end,
}

local function act(world, volume, body)
  local kind = input.text(body, "type", true)
  if not prepare[kind] then reply.unprocessable("%s is not a valid action for a volume.", kind) end
  if volume.event then reply.pending "Volume" end
  local done = prepare[kind](world, volume, body)
  volume.event = kind
  local action = actions.start(world, {
    type = kind .. "_volume", resource_type = "volume", resource_id = 0, region = volume.region,
    seconds = world.latency.attach,
    done = function()
      volume.event = nil
      done()
    end,
    failed = function() volume.event = nil end,
  })
  action.resource_id, action.volume_id = nil, volume.id -- a UUID has no place in the number
  return reply.json(202, { action = actions.show(world, action) })
end

local function snapshot(world, request)
  local volume = existing(world, request)
  local row = world:appear("volume_snapshots", {
    id = world:uuid(), name = input.text(request.body, "name", true), volume_id = volume.id,
    created_at = world:stamp(), regions = json.array { volume.region },
    min_disk_size = volume.size_gigabytes, size_gigabytes = 0.1,
    tags = tags.ensure(world, input.texts(request.body, "tags")),
  })
  return reply.json(201, { snapshot = images.snapshot_row(row) })
end

local function list(world, request)
  local name, region = request.query.name, request.query.region
  local rows = world:visible("volumes", function(row)
    return (not name or row.name == name) and (not region or row.region == region)
  end)
  return reply.page(request, "volumes", rows, function(row) return show(world, row) end)
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function volumes.routes(add)
  add("GET", "/v2/volumes", list)
  add("POST", "/v2/volumes", create)
  add("DELETE", "/v2/volumes", function(world, request)
    local volume = named(world, request.query.name, request.query.region)
    if not volume then reply.not_found() end
    return remove(world, volume)
  end)
  add("POST", "/v2/volumes/actions", function(world, request)
    local volume = named(world, input.text(request.body, "volume_name", true),
      input.text(request.body, "region"))
    if not volume then reply.not_found() end
    return act(world, volume, request.body)
  end)
  add("GET", "/v2/volumes/{id}", function(world, request)
    return reply.json(200, { volume = show(world, existing(world, request)) })
  end)
  add("DELETE", "/v2/volumes/{id}", function(world, request)
    return remove(world, existing(world, request))
  end)
  add("POST", "/v2/volumes/{id}/actions", function(world, request)
    return act(world, existing(world, request), request.body)
  end)
  add("GET", "/v2/volumes/{id}/actions", function(world, request)
    local volume = existing(world, request)
    return actions.page(world, request, function(row) return row.volume_id == volume.id end)
  end)
  add("GET", "/v2/volumes/{id}/actions/{action}", function(world, request)
    local volume = existing(world, request)
    return actions.one(world, request.action, function(row) return row.volume_id == volume.id end)
  end)
  add("POST", "/v2/volumes/{id}/snapshots", snapshot)
  add("GET", "/v2/volumes/{id}/snapshots", function(world, request)
    local volume = existing(world, request)
    return reply.page(request, "snapshots", world:visible("volume_snapshots", function(row)
      return row.volume_id == volume.id
    end), images.snapshot_row)
  end)
end

return volumes
