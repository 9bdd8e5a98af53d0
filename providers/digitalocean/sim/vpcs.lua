---VPCs: each region has a default one, made when it is first needed.
local json = require "kiln.json"
local catalogue = require "providers.digitalocean.sim.catalogue"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"

local vpcs = {}

local function add(world, fields)
  local number = world:number("vpc", 1)
  fields.id = world:uuid()
  fields.urn = "do:vpc:" .. fields.id
  fields.created_at = world:stamp()
  fields.ip_range = fields.ip_range or ("10.%d.0.0/20"):format(100 + number % 100)
  return world.vpcs:add(fields)
end

---Gives the default VPC of a region.
---@param world kiln.do.sim.World
---@param region string slug
---@return table vpc
function vpcs.default(world, region)
  return world.vpcs:find(function(vpc) return vpc.region == region and vpc.default end)
    or add(world, {
      name = "default-" .. region, region = region, default = true, description = "",
    })
end

---Gives the VPC that a request names, or the region's default one. Refuses with 422.
---@param world kiln.do.sim.World
---@param id string?
---@param region string slug
---@return table vpc
function vpcs.choose(world, id, region)
  if not id then return vpcs.default(world, region) end
  local vpc = world.vpcs:get(id)
  if not vpc or vpc.region ~= region then
    reply.unprocessable("You specified an invalid VPC: it does not exist in region %s", region)
  end
  return vpc
end

local function show(vpc)
  return {
    id = vpc.id, urn = vpc.urn, name = vpc.name, description = vpc.description,
    region = vpc.region, ip_range = vpc.ip_range, default = vpc.default or false,
    created_at = vpc.created_at,
  }
end

local function existing(world, request)
  local vpc = world.vpcs:get(request.id)
  if not vpc then reply.not_found() end
  return vpc
end

local function check_name(world, name, own)
  if not name:find("^[%w%-%.]+$") then
    reply.unprocessable("name may only contain letters, numbers, dashes, and periods")
  end
  local other = world.vpcs:find(function(vpc) return vpc.name == name end)
  if other and other ~= own then reply.unprocessable("name has already been taken") end
end

local function create(world, request)
  local name = input.text(request.body, "name", true)
  local region = catalogue.by_slug(world.regions, input.text(request.body, "region", true))
  if not region then reply.unprocessable("region is invalid") end
  check_name(world, name)
  local vpc = add(world, {
    name = name, region = region.slug, description = input.text(request.body, "description") or "",
    ip_range = input.text(request.body, "ip_range"),
  })
  return reply.json(201, { vpc = show(vpc) })
end

local function update(world, request)
  local vpc = existing(world, request)
  local name = input.text(request.body, "name")
  if name then check_name(world, name, vpc) end
  vpc.name = name or vpc.name
  vpc.description = input.text(request.body, "description") or vpc.description
  if request.body.default == true then
    vpcs.default(world, vpc.region).default = false
    vpc.default = true
  end
  return reply.json(200, { vpc = show(vpc) })
end

local function members(world, vpc)
  local rows = {}
  for _, kind in ipairs { { "droplets", "droplet" }, { "load_balancers", "loadbalancer" },
    { "databases", "dbaas" } } do
    for _, row in ipairs(world[kind[1]].rows) do
      if row.vpc_uuid == vpc.id then
        rows[#rows + 1] = {
          name = row.name, urn = ("do:%s:%s"):format(kind[2], row.id), created_at = row.created_at,
        }
      end
    end
  end
  return rows
end

local function remove(world, request)
  local vpc = existing(world, request)
  if vpc.default then
    reply.refuse(403, "forbidden", "The default VPC of a region cannot be deleted.")
  end
  if #members(world, vpc) > 0 then
    reply.refuse(403, "forbidden", "Can not delete VPC with members")
  end
  world.vpcs:remove(vpc.id)
  return reply.none()
end

---Adds the routes.
---@param route fun(method: string, pattern: string, handler: function)
function vpcs.routes(route)
  route("GET", "/v2/vpcs", function(world, request)
    return reply.page(request, "vpcs", world.vpcs.rows, show)
  end)
  route("POST", "/v2/vpcs", create)
  route("GET", "/v2/vpcs/{id}", function(world, request)
    return reply.json(200, { vpc = show(existing(world, request)) })
  end)
  route("PUT", "/v2/vpcs/{id}", update)
  route("PATCH", "/v2/vpcs/{id}", update)
  route("DELETE", "/v2/vpcs/{id}", remove)
  route("GET", "/v2/vpcs/{id}/members", function(world, request)
    local rows = json.array(members(world, existing(world, request)))
    return reply.page(request, "members", rows, function(row) return row end)
  end)
end

return vpcs
