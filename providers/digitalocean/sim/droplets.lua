---Droplets: created, listed, found after a while, destroyed.
---
---Semantics: https://docs.digitalocean.com/reference/api/digitalocean/#tag/Droplets; what the pages
---do not say is from public issue threads named in spec/providers/digitalocean/sim_spec.lua.
local json = require "kiln.json"
local actions = require "providers.digitalocean.sim.actions"
local droplet_create = require "providers.digitalocean.sim.droplet_create"
local images = require "providers.digitalocean.sim.images"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"

local droplets = {}

local function networks(world, droplet)
  local v4 = json.array {}
  if droplet.address and world.now >= droplet.address_at then
    v4[1] = { ip_address = droplet.private_address, netmask = "255.255.240.0",
      gateway = "<nil>", type = "private" }
    if droplet.public_networking then
      v4[2] = { ip_address = droplet.address, netmask = "255.255.240.0",
        gateway = droplet.address:gsub("%d+$", "1"), type = "public" }
    end
  end
  return { v4 = v4, v6 = json.array {} }
end

---Gives what the client sees of a droplet.
---@param world kiln.do.sim.World
---@param droplet table
---@return table
function droplets.show(world, droplet)
  return {
    id = droplet.id, name = droplet.name, memory = droplet.size.memory,
    vcpus = droplet.size.vcpus, disk = droplet.disk,
    disk_info = droplet.size.disk_info, locked = droplet.event ~= nil, status = droplet.status,
    kernel = json.null, created_at = droplet.created_at, features = droplet.features,
    backup_ids = json.array {}, next_backup_window = json.null,
    snapshot_ids = droplet.snapshot_ids, image = images.show(droplet.image),
    volume_ids = droplet.volume_ids, size = droplet.size, size_slug = droplet.size.slug,
    networks = networks(world, droplet), region = droplet.region, tags = droplet.tags,
    vpc_uuid = droplet.vpc_uuid,
  }
end

---Gives the droplet that a request names. Refuses with 404.
---@param world kiln.do.sim.World
---@param id string|integer
---@return table droplet
function droplets.existing(world, id)
  local droplet = world:seen("droplets", id)
  if not droplet then reply.not_found() end
  return droplet
end

local function list(world, request)
  local query, asked = request.query, 0
  for _, name in ipairs { "tag_name", "name", "type" } do
    if query[name] then asked = asked + 1 end
  end
  if asked > 1 then
    reply.unprocessable("tag_name, name and type may not be combined")
  end
  local rows = world:visible("droplets", function(droplet)
    if query.tag_name then return tags.has(droplet, query.tag_name) end
    if query.name then return droplet.name:lower() == query.name:lower() end
    return query.type ~= "gpus"
  end)
  return reply.page(request, "droplets", rows, function(row) return droplets.show(world, row) end)
end

local function create(world, request)
  local made, multiple = droplet_create.create(world, request)
  local shown, links = json.array {}, json.array {}
  for index, row in ipairs(made) do
    shown[index] = droplets.show(world, row.droplet)
    links[index] = actions.link(request, row.action, "create")
  end
  if multiple then
    return reply.json(202, { droplets = shown, links = { actions = links } })
  end
  return reply.json(202, { droplet = shown[1], links = { actions = links } })
end

---Takes a droplet away for good, and what hung on it.
---@param world kiln.do.sim.World
---@param droplet table
function droplets.vanish(world, droplet)
  world.droplets:remove(droplet.id)
  droplet.gone = true
  for _, address in ipairs(world.reserved_ips.rows) do
    if address.droplet_id == droplet.id then address.droplet_id = nil end
  end
  for _, id in ipairs(droplet.volume_ids) do
    local volume = world.volumes:get(id)
    if volume then volume.droplet_ids = json.array {} end
  end
end

local function destroy(world, droplet)
  if droplet.dying then reply.pending() end
  droplet.dying = true
  droplet.event = droplet.event or "destroy"
  local job = world.machines and world.machines.destroy(droplet.id)
  world:after(world.latency.destroy, function() droplets.vanish(world, droplet) end, job)
end

local function remove(world, request)
  destroy(world, droplets.existing(world, request.id))
  return reply.none()
end

local function remove_tagged(world, request)
  local tag = request.query.tag_name
  if not tag then reply.unprocessable("tag_name is missing") end
  for _, droplet in ipairs(world.droplets:list(function(row) return tags.has(row, tag) end)) do
    if not droplet.dying then destroy(world, droplet) end
  end
  return reply.none()
end

local function list_snapshots(world, request)
  local droplet = droplets.existing(world, request.id)
  local rows = world.images:list(function(image)
    return image.type == "snapshot" and image.droplet_id == droplet.id
  end)
  return reply.page(request, "snapshots", rows, function(image)
    return {
      id = image.id, name = image.name, type = "snapshot", created_at = image.created_at,
      regions = image.regions, min_disk_size = image.min_disk_size,
      size_gigabytes = image.size_gigabytes, distribution = image.distribution,
      slug = json.null, public = false,
    }
  end)
end

---Lists that are always empty here: the simulator makes no backups and offers no kernels.
local function empty(name)
  return function(world, request)
    droplets.existing(world, request.id)
    return reply.page(request, name, {}, function(row) return row end)
  end
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function droplets.routes(add)
  add("GET", "/v2/droplets", list)
  add("POST", "/v2/droplets", create)
  add("DELETE", "/v2/droplets", remove_tagged)
  add("GET", "/v2/droplets/{id}", function(world, request)
    return reply.json(200, { droplet = droplets.show(world, droplets.existing(world, request.id)) })
  end)
  add("DELETE", "/v2/droplets/{id}", remove)
  add("GET", "/v2/droplets/{id}/snapshots", list_snapshots)
  add("GET", "/v2/droplets/{id}/backups", empty "backups")
  add("GET", "/v2/droplets/{id}/kernels", empty "kernels")
  add("GET", "/v2/droplets/{id}/neighbors", function(world, request)
    droplets.existing(world, request.id)
    return reply.json(200, { droplets = json.array {} })
  end)
end

return droplets
