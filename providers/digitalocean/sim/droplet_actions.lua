---Actions on droplets: one event at a time, its effect when it completes.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Droplet-Actions
local actions = require "providers.digitalocean.sim.actions"
local catalogue = require "providers.digitalocean.sim.catalogue"
local droplets = require "providers.digitalocean.sim.droplets"
local images = require "providers.digitalocean.sim.images"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"

local droplet_actions = {}

---@class kiln.do.sim.DropletEvent
---@field latency string which of the simulator's latencies it takes
---@field needs? "active"|"off"
---@field prepare? fun(world: table, droplet: table, body: table): fun(job: table?), table?
---  reads the request, refuses, and gives what completing it does and the job it waits for

local function switch_off(world, droplet)
  local job = world.machines and world.machines.power_off(droplet.id)
  local ignored = world.fault and world.fault.kind == "ignored"
  return function()
    if not ignored then droplet.status = "off" end
  end, job
end

local function switch_on(world, droplet)
  local job = world.machines and world.machines.power_on(droplet.id)
  return function() droplet.status = "active" end, job
end

local function snapshot(world, droplet, body)
  local name = input.text(body, "name")
    or ("%s-%d"):format(droplet.name, math.floor(world.now * 1000))
  local job = world.machines and world.machines.snapshot(droplet.id, name)
  return function(done)
    local image = images.from_droplet(world, droplet, {
      name = name, gigabytes = done and done.value.gigabytes,
    })
    image.local_image = done and done.value.id
    table.insert(droplet.snapshot_ids, image.id)
  end, job
end

local function rename(_, droplet, body)
  local name = input.text(body, "name", true)
  return function() droplet.name = name end
end

local function resize(world, droplet, body)
  local size = catalogue.by_slug(world.sizes, input.text(body, "size", true))
  if not size then reply.unprocessable("You specified an invalid size.") end
  if size.disk < droplet.disk then
    reply.unprocessable("This size is not available because it has a smaller disk.")
  end
  return function()
    droplet.size = size
    if body.disk == true then droplet.disk = size.disk end
  end
end

local function rebuild(world, droplet, body)
  local image = images.bootable(world, body.image)
  if not image or not images.is_in(image, droplet.region.slug) then
    reply.unprocessable("You specified an invalid image for Droplet rebuild.")
  end
  return function()
    droplet.image = image
    droplet.status = "active"
  end
end

local function feature(name, there)
  return function(_, droplet)
    return function()
      for place = #droplet.features, 1, -1 do
        if droplet.features[place] == name then table.remove(droplet.features, place) end
      end
      if there then table.insert(droplet.features, name) end
    end
  end
end

local function nothing() return function() end end

---@type table<string, kiln.do.sim.DropletEvent>
local events = {
  shutdown = { latency = "off", needs = "active", prepare = switch_off },
  power_off = { latency = "off", needs = "active", prepare = switch_off },
  power_on = { latency = "on", needs = "off", prepare = switch_on },
  power_cycle = { latency = "reboot", prepare = switch_on },
  reboot = { latency = "reboot", needs = "active", prepare = nothing },
  snapshot = { latency = "snapshot", prepare = snapshot },
  rename = { latency = "rename", prepare = rename },
  resize = { latency = "resize", needs = "off", prepare = resize },
  rebuild = { latency = "create", prepare = rebuild },
  restore = { latency = "create", prepare = rebuild },
  password_reset = { latency = "reboot", prepare = nothing },
  enable_ipv6 = { latency = "rename", prepare = feature("ipv6", true) },
  enable_private_networking = { latency = "rename", prepare = nothing },
  enable_backups = { latency = "rename", prepare = feature("backups", true) },
  disable_backups = { latency = "rename", prepare = feature("backups", false) },
  change_kernel = { latency = "rename", prepare = nothing },
}

local messages = {
  active = "Droplet is already powered off",
  off = "Droplet is currently on. Please power it off to run this event.",
}

local function begin(world, droplet, body)
  local kind = input.text(body, "type", true)
  local event = events[kind]
  if not event then reply.unprocessable("%s is not a valid event.", kind) end
  if droplet.event or droplet.dying then reply.pending() end
  if event.needs and droplet.status ~= event.needs then
    reply.unprocessable(messages[event.needs])
  end
  local done, job = event.prepare(world, droplet, body)
  droplet.event = kind
  local action = actions.start(world, {
    type = kind, resource_type = "droplet", resource_id = droplet.id,
    region = droplet.region.slug, seconds = world.latency[event.latency], job = job,
    done = function(ended)
      if droplet.event == kind then droplet.event = nil end
      done(ended)
    end,
    failed = function() if droplet.event == kind then droplet.event = nil end end,
  })
  return action
end

---Notes that a droplet was switched off from inside; nobody asked the API for it.
---@param world kiln.do.sim.World
---@param id integer
function droplet_actions.guest_off(world, id)
  local droplet = world.droplets:get(id)
  if droplet and droplet.status == "active" then droplet.status = "off" end
end

local function is_of(droplet)
  return function(action)
    return action.resource_type == "droplet" and action.resource_id == droplet.id
  end
end

local function act(world, request)
  local action = begin(world, droplets.existing(world, request.id), request.body)
  return reply.json(201, { action = actions.show(world, action) })
end

local function act_tagged(world, request)
  local tag = request.query.tag_name
  if not tag then reply.unprocessable("tag_name is missing") end
  local shown = {}
  for _, droplet in ipairs(world.droplets:list(function(row) return tags.has(row, tag) end)) do
    shown[#shown + 1] = actions.show(world, begin(world, droplet, request.body))
  end
  return reply.json(201, { actions = shown })
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function droplet_actions.routes(add)
  add("POST", "/v2/droplets/actions", act_tagged)
  add("POST", "/v2/droplets/{id}/actions", act)
  add("GET", "/v2/droplets/{id}/actions", function(world, request)
    return actions.page(world, request, is_of(droplets.existing(world, request.id)))
  end)
  add("GET", "/v2/droplets/{id}/actions/{action}", function(world, request)
    return actions.one(world, request.action, is_of(droplets.existing(world, request.id)))
  end)
end

return droplet_actions
