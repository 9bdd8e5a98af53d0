---Projects: what is assigned to none is in the default one.
local json = require "kiln.json"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"

local projects = {}

-- What a URN names, by the world's collection.
local kinds = {
  droplet = "droplets", floatingip = "reserved_ips", loadbalancer = "load_balancers",
  domain = "domains", volume = "volumes", dbaas = "databases", vpc = "vpcs",
}

local environments = { Development = true, Staging = true, Production = true }

---Gives the default project.
---@param world kiln.do.sim.World
---@return table project
function projects.default(world)
  return world.projects:find(function(project) return project.is_default end)
    or world.projects:add {
      id = world:uuid(), name = "default", description = "", is_default = true,
      purpose = "Just trying out DigitalOcean", environment = "Development",
      created_at = world:stamp(), updated_at = world:stamp(), urns = {},
    }
end

---Tells which project a resource is in.
---@param world kiln.do.sim.World
---@param urn string "do:droplet:3164444"
---@return string id
function projects.of(world, urn)
  local project = world.projects:find(function(row) return row.urns[urn] end)
  return (project or projects.default(world)).id
end

local function show(project)
  return {
    id = project.id, owner_uuid = "99525febec065ca37b2ffe4f852fd2b2581895e7", owner_id = 258992,
    name = project.name, description = project.description, purpose = project.purpose,
    environment = project.environment, created_at = project.created_at,
    updated_at = project.updated_at, is_default = project.is_default or false,
  }
end

---Gives a project, or answers 404.
---@param world kiln.do.sim.World
---@param id string or "default"
---@return table project
function projects.existing(world, id)
  local project = id == "default" and projects.default(world) or world.projects:get(id)
  if not project then reply.not_found() end
  return project
end

local function existing(world, request)
  return projects.existing(world, request.id)
end

---Puts a resource into a project, out of the one that it was in.
---@param world kiln.do.sim.World
---@param project table
---@param urn string
function projects.put(world, project, urn)
  for _, other in ipairs(world.projects.rows) do other.urns[urn] = nil end
  if not project.is_default then project.urns[urn] = true end
end

---Tells whether a URN names something that is there, seen or not.
local function is_there(world, urn)
  local kind, id = urn:match("^do:(%w+):(.+)$")
  return kinds[kind] ~= nil and world[kinds[kind]]:get(id) ~= nil
end

---Reads the fields of a project; a PATCH leaves out what stays.
local function read(world, body, project, whole)
  local name = input.text(body, "name", whole)
  local other = name and world.projects:find(function(row) return row.name == name end)
  if other and other ~= project then
    reply.refuse(409, "conflict", "name is already in use")
  end
  local environment = input.text(body, "environment")
  if environment and not environments[environment] then
    reply.unprocessable("environment must be Development, Staging or Production")
  end
  project.name = name or project.name
  project.purpose = input.text(body, "purpose", whole) or project.purpose
  project.description = input.text(body, "description") or project.description or ""
  project.environment = environment or project.environment or "Development"
  project.updated_at = world:stamp()
  return project
end

local function create(world, request)
  projects.default(world)
  local project = read(world, request.body, { created_at = world:stamp(), urns = {} }, true)
  project.id = world:uuid()
  return reply.json(201, { project = show(world.projects:add(project)) })
end

local function remove(world, request)
  local project = existing(world, request)
  if project.is_default then reply.refuse(412, "precondition_failed",
    "cannot delete the default project") end
  for urn in pairs(project.urns) do
    if is_there(world, urn) then
      reply.refuse(412, "precondition_failed", "cannot delete a project with resources")
    end
  end
  world.projects:remove(project.id)
  return reply.none()
end

local function resource(world, request, urn, status)
  local kind, id = urn:match("^do:(%w+):(.+)$")
  return {
    urn = urn, assigned_at = world:stamp(), status = status,
    links = { self = ("%s/v2/%s/%s"):format(request.base, kinds[kind] or kind, id) },
  }
end

local function urns_of(world, project)
  local urns = {}
  for kind, name in pairs(kinds) do
    for _, row in ipairs(kind ~= "vpc" and world:visible(name) or {}) do
      local urn = ("do:%s:%s"):format(kind, row.id)
      if projects.of(world, urn) == project.id then urns[#urns + 1] = urn end
    end
  end
  table.sort(urns)
  return urns
end

local function assign(world, request)
  local project, shown = existing(world, request), json.array {}
  for _, urn in ipairs(input.texts(request.body, "resources")) do
    if not urn:find("^do:%w+:.+$") then reply.unprocessable("%s is no URN", urn) end
    local status = "not_found"
    if is_there(world, urn) then
      status = project.urns[urn] and "already_assigned" or "assigned"
      projects.put(world, project, urn)
    end
    shown[#shown + 1] = resource(world, request, urn, status)
  end
  return reply.json(200, { resources = shown })
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function projects.routes(add)
  add("GET", "/v2/projects", function(world, request)
    projects.default(world)
    return reply.page(request, "projects", world.projects.rows, show)
  end)
  add("POST", "/v2/projects", create)
  add("GET", "/v2/projects/{id}", function(world, request)
    return reply.json(200, { project = show(existing(world, request)) })
  end)
  add("PUT", "/v2/projects/{id}", function(world, request)
    return reply.json(200, { project = show(read(world, request.body, existing(world, request),
      true)) })
  end)
  add("PATCH", "/v2/projects/{id}", function(world, request)
    return reply.json(200, { project = show(read(world, request.body, existing(world, request))) })
  end)
  add("DELETE", "/v2/projects/{id}", remove)
  add("GET", "/v2/projects/{id}/resources", function(world, request)
    local urns = urns_of(world, existing(world, request))
    return reply.page(request, "resources", urns, function(urn)
      return resource(world, request, urn, "ok")
    end)
  end)
  add("POST", "/v2/projects/{id}/resources", assign)
end

return projects
