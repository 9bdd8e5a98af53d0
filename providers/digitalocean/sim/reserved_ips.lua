---Reserved IPs, and the same under their old name: floating IPs.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Reserved-IPs; limits:
---https://docs.digitalocean.com/products/networking/reserved-ips/details/limits/
local json = require "kiln.json"
local actions = require "providers.digitalocean.sim.actions"
local catalogue = require "providers.digitalocean.sim.catalogue"
local droplets = require "providers.digitalocean.sim.droplets"
local input = require "providers.digitalocean.sim.input"
local projects = require "providers.digitalocean.sim.projects"
local reply = require "providers.digitalocean.sim.reply"

local reserved_ips = {}

local families = {
  { path = "/v2/reserved_ips", key = "reserved_ip", list = "reserved_ips" },
  { path = "/v2/floating_ips", key = "floating_ip", list = "floating_ips" },
}

local function show(world, address)
  local droplet = address.droplet_id and world.droplets:get(address.droplet_id)
  return {
    ip = address.id, region = catalogue.by_slug(world.regions, address.region),
    droplet = droplet and droplets.show(world, droplet) or json.null,
    locked = address.event ~= nil, project_id = projects.of(world, "do:floatingip:" .. address.id),
  }
end

---An address as the number that actions name it by.
local function number_of(ip)
  local value = 0
  for part in ip:gmatch("%d+") do value = value * 256 + math.tointeger(tonumber(part)) end
  return value
end

local function existing(world, request)
  local address = world:seen("reserved_ips", request.ip)
  if not address then reply.not_found() end
  return address
end

local function check_free(world, address, droplet)
  if address.event then reply.unprocessable("The floating IP already has a pending event.") end
  if not droplet then return end
  if droplet.event then reply.pending() end
  if not droplet.public_networking then
    reply.unprocessable("Droplet has no public networking and cannot have a reserved IP.")
  end
  if droplet.region.slug ~= address.region then
    reply.unprocessable("The Droplet and the reserved IP must be in the same region.")
  end
  local other = world.reserved_ips:find(function(row)
    return row ~= address and row.droplet_id == droplet.id
  end)
  if other then reply.unprocessable("Droplet already has a reserved IP.") end
end

local function target_of(world, body)
  local id = input.integer(body, "droplet_id", true)
  local droplet = world.droplets:get(id)
  if not droplet or droplet.dying then reply.unprocessable("Droplet %d could not be found.", id) end
  return droplet
end

---Points an address to a droplet, or to none, when its time has come.
local function move(world, family, address, droplet)
  local kind = droplet and "assign_ip" or "unassign_ip"
  address.event = kind
  if droplet then droplet.event = kind end
  local job = world.machines and world.machines.assign(address.id, droplet and droplet.id)
  local function unlock()
    address.event = nil
    if droplet and droplet.event == kind then droplet.event = nil end
  end
  return actions.start(world, {
    type = kind, resource_type = family.key, resource_id = number_of(address.id),
    region = address.region, seconds = world.latency.assign, job = job,
    done = function()
      unlock()
      address.droplet_id = droplet and not droplet.gone and droplet.id or nil
    end,
    failed = unlock,
  })
end

local function new_address(world, region)
  local ip
  if world.machines then
    ip = world.machines.reserve()
  else
    local number = world:number("reserved_ip", 5)
    ip = ("198.19.%d.%d"):format(number // 250, number % 250 + 2)
  end
  return world:appear("reserved_ips", { id = ip, region = region.slug })
end

local function check_limits(world)
  if #world.reserved_ips.rows >= world.limits.reserved_ips then
    reply.unprocessable("You have reached the reserved IP limit of %d.", world.limits.reserved_ips)
  end
end

local function create(world, request, family)
  local body = request.body
  local droplet, region
  request.at_most("reserved_ips", world.limits.reserved_ips_minute)
  if body.droplet_id ~= nil then
    droplet = target_of(world, body)
    region = droplet.region
    check_free(world, { region = region.slug }, droplet)
  else
    region = catalogue.by_slug(world.regions, input.text(body, "region", true))
    if not region or not region.available then reply.unprocessable("region is invalid") end
  end
  check_limits(world)
  local project = body.project_id and not droplet
    and projects.existing(world, input.text(body, "project_id"))
  local address, links = new_address(world, region), {}
  if project then projects.put(world, project, "do:floatingip:" .. address.id) end
  if droplet then
    local action = move(world, family, address, droplet)
    links.actions = json.array { actions.link(request, action, "assign_ip") }
    links.droplets = json.array { {
      id = droplet.id, rel = "droplet",
      href = ("%s/v2/droplets/%d"):format(request.base, droplet.id),
    } }
  end
  return reply.json(202, { [family.key] = show(world, address), links = links })
end

local function act(world, request, family)
  local address, kind = existing(world, request), input.text(request.body, "type", true)
  local droplet
  if kind == "assign" then
    droplet = target_of(world, request.body)
  elseif kind ~= "unassign" then
    reply.unprocessable("%s is not a valid action for a reserved IP.", kind)
  end
  check_free(world, address, droplet)
  if not droplet and not address.droplet_id then
    reply.unprocessable("The floating IP is not assigned to a droplet.")
  end
  local action = move(world, family, address, droplet)
  local shown = actions.show(world, action)
  shown.project_id = projects.of(world, "do:floatingip:" .. address.id)
  return reply.json(201, { action = shown })
end

local function remove(world, request)
  local address = existing(world, request)
  if address.event then reply.unprocessable("The floating IP already has a pending event.") end
  world.reserved_ips:remove(address.id)
  if world.machines then world.machines.release(address.id) end
  return reply.none()
end

local function is_of(address)
  local number = number_of(address.id)
  return function(action)
    return (action.resource_type == "reserved_ip" or action.resource_type == "floating_ip")
      and action.resource_id == number
  end
end

local function add_family(add, family)
  add("GET", family.path, function(world, request)
    return reply.page(request, family.list, world:visible "reserved_ips", function(row)
      return show(world, row)
    end)
  end)
  add("POST", family.path, function(world, request) return create(world, request, family) end)
  add("GET", family.path .. "/{ip}", function(world, request)
    return reply.json(200, { [family.key] = show(world, existing(world, request)) })
  end)
  add("DELETE", family.path .. "/{ip}", remove)
  add("POST", family.path .. "/{ip}/actions", function(world, request)
    return act(world, request, family)
  end)
  add("GET", family.path .. "/{ip}/actions", function(world, request)
    return actions.page(world, request, is_of(existing(world, request)))
  end)
  add("GET", family.path .. "/{ip}/actions/{action}", function(world, request)
    return actions.one(world, request.action, is_of(existing(world, request)))
  end)
end

---Adds the routes of both families.
---@param add fun(method: string, pattern: string, handler: function)
function reserved_ips.routes(add)
  for _, family in ipairs(families) do add_family(add, family) end
end

return reserved_ips
