---Images and snapshots: one thing under two names, a number in /v2/images, text in /v2/snapshots.
local json = require "kiln.json"
local actions = require "providers.digitalocean.sim.actions"
local catalogue = require "providers.digitalocean.sim.catalogue"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"

local images = {}

---Gives what /v2/images shows.
---@param image table
---@return table
function images.show(image)
  return {
    id = image.id, name = image.name, type = image.type, distribution = image.distribution,
    slug = image.slug or json.null, public = image.public, regions = image.regions,
    created_at = image.created_at, min_disk_size = image.min_disk_size,
    size_gigabytes = image.size_gigabytes, description = image.description, tags = image.tags,
    status = image.status, error_message = image.error_message,
  }
end

---Makes the image of a droplet: what a `snapshot` action leaves when it completes.
---@param world kiln.do.sim.World
---@param droplet table
---@param spec { name: string, gigabytes: number? }
---@return table image
function images.from_droplet(world, droplet, spec)
  return world.images:add {
    id = world:number("image", 7555620), name = spec.name, type = "snapshot",
    distribution = droplet.image.distribution, public = false,
    regions = json.array { droplet.region.slug }, created_at = world:stamp(),
    min_disk_size = droplet.disk, size_gigabytes = spec.gigabytes or 1.17, description = "",
    tags = json.array {}, status = "available", error_message = "", droplet_id = droplet.id,
    base = droplet.image.slug or droplet.image.base,
  }
end

---Finds what a droplet may be made from: a slug, or an id.
---@param world kiln.do.sim.World
---@param name any
---@return table? image
function images.bootable(world, name)
  local image = (math.type(name) == "integer" or (type(name) == "string" and name:find("^%d+$")))
    and world.images:get(name)
    or world.images:find(function(row) return row.slug ~= nil and row.slug == name end)
  return image and image.status == "available" and image or nil
end

---Tells whether an image is in a region.
---@param image table
---@param region string slug
---@return boolean
function images.is_in(image, region)
  for _, slug in ipairs(image.regions) do
    if slug == region then return true end
  end
  return false
end

local function existing(world, request)
  local image = world.images:get(request.id)
    or world.images:find(function(row) return row.slug == request.id end)
  if not image then reply.not_found() end
  return image
end

local function own(world, request)
  local image = existing(world, request)
  if image.public then
    reply.refuse(403, "forbidden", "You do not have access for the attempted action.")
  end
  return image
end

local function list(world, request)
  local query = request.query
  if query.tag_name and (query.type or query.private) then
    reply.unprocessable("tag_name may not be combined with type or private")
  end
  local rows = world.images:list(function(image)
    if query.tag_name then return tags.has(image, query.tag_name) end
    if query.private == "true" then return not image.public end
    if query.type == "distribution" then return image.type == "base" end
    if query.type == "application" then return image.type == "application" end
    return true
  end)
  return reply.page(request, "images", rows, images.show)
end

local function update(world, request)
  local image = own(world, request)
  image.name = input.text(request.body, "name") or image.name
  image.description = input.text(request.body, "description") or image.description
  image.distribution = input.text(request.body, "distribution") or image.distribution
  return reply.json(200, { image = images.show(image) })
end

local function remove(world, image)
  if image.event then reply.pending "Image" end
  world.images:remove(image.id)
  local source = world.droplets:get(image.droplet_id)
  for place, id in ipairs(source and source.snapshot_ids or {}) do
    if id == image.id then
      table.remove(source.snapshot_ids, place)
      break
    end
  end
  if world.machines and image.local_image then world.machines.destroy_image(image.local_image) end
  return reply.none()
end

local function transfer(world, request, image)
  local region = catalogue.by_slug(world.regions, input.text(request.body, "region", true))
  if not region or not region.available then
    reply.unprocessable("You specified an invalid region.")
  end
  if images.is_in(image, region.slug) then
    reply.unprocessable("Image is already available in that region.")
  end
  image.copies = image.copies or {}
  if image.copies[region.slug] then reply.pending "Image" end
  image.copies[region.slug] = true
  return actions.start(world, {
    type = "transfer", resource_type = "image", resource_id = image.id, region = region.slug,
    seconds = world.latency.transfer,
    done = function()
      image.copies[region.slug] = nil
      table.insert(image.regions, region.slug)
    end,
    failed = function() image.copies[region.slug] = nil end,
  })
end

local function act(world, request)
  local image = own(world, request)
  local kind, action = input.text(request.body, "type", true), nil
  if kind == "transfer" then
    action = transfer(world, request, image)
  elseif kind == "convert" then
    action = actions.start(world, {
      type = "convert", resource_type = "image", resource_id = image.id, seconds = 1,
      region = image.regions[1], done = function() image.type = "snapshot" end,
    })
  else
    reply.unprocessable("%s is not a valid action for an image.", kind)
  end
  return reply.json(201, { action = actions.show(world, action) })
end

local function is_of(image)
  return function(action)
    return action.resource_type == "image" and action.resource_id == image.id
  end
end

local function snapshot_row(image)
  return {
    id = tostring(image.id), name = image.name, created_at = image.created_at,
    regions = image.regions, resource_id = tostring(image.droplet_id or image.volume_id),
    resource_type = image.volume_id and "volume" or "droplet",
    min_disk_size = image.min_disk_size, size_gigabytes = image.size_gigabytes,
    tags = image.tags,
  }
end

---Gives the snapshots of an account: of droplets and of volumes.
local function all_snapshots(world)
  local rows = world.images:list(function(row) return row.droplet_id and row.type == "snapshot" end)
  return table.move(world.volume_snapshots.rows, 1, #world.volume_snapshots.rows, #rows + 1, rows)
end

local function list_snapshots(world, request)
  local wanted, rows = request.query.resource_type, {}
  for _, row in ipairs(all_snapshots(world)) do
    if not wanted or (wanted == "volume") == (row.volume_id ~= nil) then rows[#rows + 1] = row end
  end
  return reply.page(request, "snapshots", rows, snapshot_row)
end

local function existing_snapshot(world, request)
  for _, row in ipairs(all_snapshots(world)) do
    if tostring(row.id) == request.id then return row end
  end
  reply.not_found()
end

local function remove_snapshot(world, request)
  local row = existing_snapshot(world, request)
  if row.droplet_id then return remove(world, row) end
  world.volume_snapshots:remove(row.id)
  return reply.none()
end

---Gives the shape that volumes and /v2/snapshots share.
images.snapshot_row = snapshot_row

---Adds the routes of images and snapshots.
---@param add fun(method: string, pattern: string, handler: function)
function images.routes(add)
  add("GET", "/v2/images", list)
  add("GET", "/v2/images/{id}", function(world, request)
    return reply.json(200, { image = images.show(existing(world, request)) })
  end)
  add("PUT", "/v2/images/{id}", update)
  add("DELETE", "/v2/images/{id}", function(world, request)
    return remove(world, own(world, request))
  end)
  add("POST", "/v2/images/{id}/actions", act)
  add("GET", "/v2/images/{id}/actions", function(world, request)
    return actions.page(world, request, is_of(existing(world, request)))
  end)
  add("GET", "/v2/images/{id}/actions/{action}", function(world, request)
    return actions.one(world, request.action, is_of(existing(world, request)))
  end)
  add("GET", "/v2/snapshots", list_snapshots)
  add("GET", "/v2/snapshots/{id}", function(world, request)
    return reply.json(200, { snapshot = snapshot_row(existing_snapshot(world, request)) })
  end)
  add("DELETE", "/v2/snapshots/{id}", remove_snapshot)
end

return images
