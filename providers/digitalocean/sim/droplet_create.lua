---Creating droplets: what is refused, what is promised, and what becomes of the promise.
local json = require "kiln.json"
local actions = require "providers.digitalocean.sim.actions"
local catalogue = require "providers.digitalocean.sim.catalogue"
local databases = require "providers.digitalocean.sim.databases"
local images = require "providers.digitalocean.sim.images"
local input = require "providers.digitalocean.sim.input"
local keys = require "providers.digitalocean.sim.keys"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"
local vpcs = require "providers.digitalocean.sim.vpcs"

local droplet_create = {}

---At most 64 KiB of user data, and at most 10 droplets in a request (the OpenAPI description,
---droplet_create.yml, droplet_multi_create.yml).
local most_user_data, most_names = 64 * 1024, 10

local function names_of(body)
  if body.names == nil then return { input.text(body, "name", true) }, false end
  local names = input.texts(body, "names")
  if #names == 0 or #names > most_names then
    reply.unprocessable("names must have between 1 and %d entries", most_names)
  end
  return names, true
end

local function check_names(names)
  for _, name in ipairs(names) do
    if #name > 255 or not name:find("^[%w.%-]*%w$") or name:find("^[.%-]") then
      reply.unprocessable("Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
    end
  end
end

local function check_limit(world, count)
  if #world.droplets.rows + count > world.limits.droplets then
    reply.unprocessable("creating this/these droplet(s) will exceed your droplet limit")
  end
end

---Reads where and what: region, size, image; each must fit the others.
local function place_of(world, body)
  local size = catalogue.by_slug(world.sizes, input.text(body, "size", true))
  if not size then reply.unprocessable("You specified an invalid size for Droplet creation.") end
  local slug = input.text(body, "region") or size.regions[1]
  local region = catalogue.by_slug(world.regions, slug)
  if not region then
    reply.unprocessable("You specified an invalid region for Droplet creation.")
  end
  local offered = false
  for _, one in ipairs(region.sizes) do offered = offered or one == size.slug end
  if not region.available or not offered then
    reply.unprocessable("Size is not available in this region.")
  end
  local image = images.bootable(world, body.image)
  if not image or not images.is_in(image, region.slug) then
    reply.unprocessable("You specified an invalid image for Droplet creation.")
  end
  if image.min_disk_size > size.disk then
    reply.unprocessable("The image requires a disk of at least %d GB; size %s has %d GB.",
      image.min_disk_size, size.slug, size.disk)
  end
  return region, size, image
end

local function keys_of(world, body)
  local found, missing = {}, {}
  for _, name in ipairs(input.texts(body, "ssh_keys")) do
    local key = keys.find(world, name)
    if key then found[#found + 1] = key.public_key else missing[#missing + 1] = name end
  end
  if #missing > 0 then
    reply.unprocessable("%s are invalid key identifiers for Droplet creation.",
      table.concat(missing, ", "))
  end
  return found
end

local function volumes_of(world, body, region)
  local ids = json.array {}
  for _, id in ipairs(input.texts(body, "volumes")) do
    local volume = world.volumes:get(id)
    if not volume or volume.region ~= region.slug or #volume.droplet_ids > 0 then
      reply.unprocessable("Volume %s cannot be attached to this Droplet.", id)
    end
    ids[#ids + 1] = volume.id
  end
  return ids
end

---Reads the whole request before anything is made: all of the droplets, or none.
local function plan_of(world, body)
  local names, multiple = names_of(body)
  check_names(names)
  local region, size, image = place_of(world, body)
  local user_data = input.text(body, "user_data")
  if user_data and #user_data > most_user_data then
    reply.unprocessable("User data is too large: %d bytes, at most %d", #user_data, most_user_data)
  end
  local plan = {
    names = names, multiple = multiple, region = region, size = size, image = image,
    user_data = user_data, keys = keys_of(world, body),
    volume_ids = volumes_of(world, body, region), vpc = nil,
    public = body.public_networking ~= false, monitoring = body.monitoring == true,
  }
  local wanted = input.texts(body, "tags")
  plan.vpc = vpcs.choose(world, input.text(body, "vpc_uuid"), region.slug)
  check_limit(world, #names)
  plan.tags = tags.ensure(world, wanted)
  return plan
end

local function address_of(world, series, network)
  local number = world:number(series, 10)
  return ("%s.%d.%d"):format(network, number // 250, number % 250 + 2)
end

local function features_of(plan)
  local features = json.array { "private_networking", "droplet_agent" }
  if plan.monitoring then table.insert(features, "monitoring") end
  return features
end

local function row_of(world, plan, name)
  return {
    id = world:number("droplet", 3164444), name = name, status = "new", event = "create",
    created_at = world:stamp(), image = plan.image, size = plan.size, disk = plan.size.disk,
    region = plan.region, tags = table.move(plan.tags, 1, #plan.tags, 1, json.array {}),
    features = features_of(plan), snapshot_ids = json.array {},
    volume_ids = table.move(plan.volume_ids, 1, #plan.volume_ids, 1, json.array {}),
    vpc_uuid = plan.vpc.id, public_networking = plan.public, keys = plan.keys,
    user_data = plan.user_data, address_at = math.huge,
  }
end

---The droplet is on: it has its addresses, if a fault does not hold them back.
local function became_active(world, droplet, job, fault)
  if droplet.gone then return end
  droplet.status = "active"
  if droplet.event == "create" then droplet.event = nil end
  droplet.address = job and job.value.address or address_of(world, "public", "198.18")
  droplet.private_address = job and droplet.address or address_of(world, "private", "10.108")
  local late = fault.kind == "no_address" and (fault.seconds or 10) or world.latency.address
  droplet.address_at = world.now + late
end

local function start(world, plan, name, fault)
  local droplet = row_of(world, plan, name)
  droplet.visible_at = world.now
    + (fault.kind == "unseen" and (fault.seconds or 5) or world.latency.visible)
  world.droplets:add(droplet)
  databases.let_in(world)
  local job = world.machines and world.machines.create(droplet)
  local action = actions.start(world, {
    type = "create", resource_type = "droplet", resource_id = droplet.id,
    region = plan.region.slug, seconds = world.latency.create, job = job,
    done = function(ended) became_active(world, droplet, ended, fault) end,
    failed = function() world.droplets:remove(droplet.id) end,
  })
  if fault.kind == "vanish" then
    world:after(fault.seconds or world.latency.create / 2, function()
      world.droplets:remove(droplet.id)
      world.actions:remove(action.id)
      droplet.gone = true
      if world.machines then world.machines.destroy(droplet.id) end
    end)
  end
  return { droplet = droplet, action = action }
end

---Creates droplets. Refuses with 422.
---@param world kiln.do.sim.World
---@param request table
---@return { droplet: table, action: table }[] made
---@return boolean multiple the request had `names`
function droplet_create.create(world, request)
  local plan = plan_of(world, request.body)
  local made, fault = {}, world.fault
  for index, name in ipairs(plan.names) do
    local hit = fault and (fault.member or index) == index
    world.fault = hit and fault or nil
    made[index] = start(world, plan, name, world.fault or {})
    for _, id in ipairs(plan.volume_ids) do
      world.volumes:get(id).droplet_ids = json.array { made[index].droplet.id }
    end
  end
  world.fault = fault
  return made, plan.multiple
end

return droplet_create
