---Managed databases: clusters, their users, databases, firewall and CA.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Databases; that the connection is
---there while the cluster is created: the OpenAPI description, databases_create_cluster.yml.
local json = require "kiln.json"
local crypto = require "kiln.crypto"
local authority = require "providers.digitalocean.sim.authority"
local catalogue = require "providers.digitalocean.sim.catalogue"
local collection = require "providers.digitalocean.sim.collection"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"
local vpcs = require "providers.digitalocean.sim.vpcs"

local databases = {}

-- engine, versions from the newest on, scheme, port, first database
local engines = {
  pg = { versions = { "17", "16", "15", "14" }, scheme = "postgresql", port = 25060,
    database = "defaultdb" },
  mysql = { versions = { "8" }, scheme = "mysql", port = 25060, database = "defaultdb" },
  valkey = { versions = { "8" }, scheme = "rediss", port = 25061, database = "" },
}

local sizes = { ["db-s-1vcpu-1gb"] = true, ["db-s-1vcpu-2gb"] = true, ["db-s-2vcpu-4gb"] = true,
  ["db-s-4vcpu-8gb"] = true }

---A password that is the same in every run of the same requests.
local function password(world)
  return "AVNS_" .. crypto.sha256("password " .. world:number("password", 1)):sub(1, 19)
end

local function connection(cluster, private)
  local engine, user = engines[cluster.engine], cluster.users:get "doadmin"
  local real = cluster.real or {} -- a machine has one address, in every network
  local host, port = real.host or (private and "private-" or "") .. cluster.host,
    real.port or engine.port
  return {
    protocol = engine.scheme, host = host, port = port, user = user.name,
    password = user.password, database = engine.database, ssl = true,
    uri = ("%s://%s:%s@%s:%d/%s?sslmode=require"):format(engine.scheme, user.name, user.password,
      host, port, engine.database),
  }
end

local function show_user(user)
  return { name = user.name, role = user.role, password = user.password }
end

local function show(cluster)
  local users, names = json.array {}, json.array {}
  for index, user in ipairs(cluster.users.rows) do users[index] = show_user(user) end
  for index, row in ipairs(cluster.dbs.rows) do names[index] = row.id end
  return {
    id = cluster.id, name = cluster.name, engine = cluster.engine, version = cluster.version,
    semantic_version = cluster.version .. ".0", num_nodes = cluster.num_nodes,
    size = cluster.size, region = cluster.region, status = cluster.status,
    created_at = cluster.created_at, private_network_uuid = cluster.vpc_uuid,
    tags = cluster.tags, db_names = names, users = users, connection = connection(cluster),
    private_connection = connection(cluster, true), storage_size_mib = 10240,
    maintenance_window = { day = "saturday", hour = "08:45:12", pending = false },
    project_id = cluster.project_id,
  }
end

local function engine_of(body)
  local name = input.text(body, "engine", true)
  local engine = engines[name]
  if not engine then reply.unprocessable("invalid engine '%s'", name) end
  local version = input.text(body, "version") or engine.versions[1]
  for _, known in ipairs(engine.versions) do
    if known == version then return name, engine, version end
  end
  reply.unprocessable("invalid engine version '%s'", version)
end

local function plan_of(world, body)
  local name = input.text(body, "name", true)
  if not name:find("^[a-z][a-z0-9%-]*$") or #name < 3 or #name > 63 then
    reply.unprocessable("invalid cluster name: it must be 3 to 63 of a-z, 0-9 and -")
  end
  if world.databases:find(function(row) return row.name == name end) then
    reply.unprocessable("cluster name is not available")
  end
  local region = catalogue.by_slug(world.regions, input.text(body, "region", true))
  if not region or not region.available then reply.unprocessable("invalid region") end
  local size = input.text(body, "size", true)
  if not sizes[size] then reply.unprocessable("invalid size '%s'", size) end
  local nodes = input.integer(body, "num_nodes", true)
  if nodes < 1 or nodes > 3 then reply.unprocessable("invalid num_nodes: 1 to 3") end
  return name, region.slug, size, nodes
end

---Lets the cluster become online, on a machine if there are machines for its engine.
local function start(world, cluster)
  local job
  if world.machines and cluster.engine == "pg" then
    job = world.machines.create_database {
      name = cluster.name, engine = cluster.engine, database = engines.pg.database,
      user = "doadmin", password = cluster.users:get("doadmin").password,
    }
  end
  -- The API has no status for a cluster that failed: it goes away.
  world:becomes(cluster, world.latency.database, function(ended)
    cluster.status, cluster.real = "online", ended and ended.value
  end, function() world.databases:remove(cluster.id) end, job)
end

local function create(world, request)
  local body = request.body
  local name, region, size, nodes = plan_of(world, body)
  local kind, engine, version = engine_of(body)
  local wanted = input.texts(body, "tags")
  local cluster = world:appear("databases", {
    id = world:uuid(), name = name, engine = kind, version = version, num_nodes = nodes,
    size = size, region = region, status = "creating", created_at = world:stamp(),
    tags = tags.ensure(world, wanted), users = collection.new(), dbs = collection.new(),
    rules = json.array {}, let_in = {}, project_id = input.text(body, "project_id"),
    vpc_uuid = vpcs.choose(world, input.text(body, "private_network_uuid"), region).id,
    host = ("%s-do-user-4915853-0.db.ondigitalocean.com"):format(name),
  })
  cluster.users:add { id = "doadmin", name = "doadmin", role = "primary",
    password = password(world) }
  if engine.database ~= "" then cluster.dbs:add { id = engine.database } end
  start(world, cluster)
  return reply.json(201, { database = show(cluster) })
end

local function existing(world, request)
  local cluster = world:seen("databases", request.id)
  if not cluster then reply.refuse(404, "not_found", "cluster not found") end
  return cluster
end

local function list(world, request)
  local tag, shown = request.query.tag_name, json.array {}
  for _, cluster in ipairs(world:visible("databases")) do
    if not tag or tags.has(cluster, tag) then shown[#shown + 1] = show(cluster) end
  end
  return reply.json(200, { databases = shown })
end

local function lets_in(cluster, droplet)
  for _, rule in ipairs(cluster.rules) do
    if rule.type == "tag" and tags.has(droplet, rule.value)
      or rule.type == "droplet" and rule.value == tostring(droplet.id) then return true end
  end
  return false
end

---Lets real machines in to real clusters, as the rules say: after each change of either.
---@param world kiln.do.sim.World
function databases.let_in(world)
  if not world.machines then return end
  for _, cluster in ipairs(world.databases.rows) do
    for _, droplet in ipairs(cluster.engine == "pg" and world.droplets.rows or {}) do
      if not cluster.let_in[droplet.id] and lets_in(cluster, droplet) then
        cluster.let_in[droplet.id] = true
        world.machines.let_in(cluster.name, droplet)
      end
    end
  end
end

local rule_types = { droplet = true, k8s = true, ip_addr = true, tag = true, app = true }

---Replaces every rule of the firewall.
local function set_firewall(world, request)
  local cluster, rules = existing(world, request), json.array {}
  for index, rule in ipairs(input.list(request.body, "rules")) do
    if type(rule) ~= "table" or not rule_types[rule.type] or type(rule.value) ~= "string"
      or rule.value == "" then
      reply.unprocessable("invalid rule: it needs a type and a value")
    end
    rules[index] = {
      uuid = world:uuid(), cluster_uuid = cluster.id, type = rule.type, value = rule.value,
      description = rule.description, created_at = world:stamp(),
    }
  end
  cluster.rules = rules
  databases.let_in(world)
  return reply.none()
end

local function resize(world, request)
  local cluster = existing(world, request)
  local size = input.text(request.body, "size") or cluster.size
  if not sizes[size] then reply.unprocessable("invalid size '%s'", size) end
  local nodes = input.integer(request.body, "num_nodes") or cluster.num_nodes
  cluster.status = "resizing"
  world:becomes(cluster, world.latency.resize, function()
    cluster.size, cluster.num_nodes, cluster.status = size, nodes, "online"
  end, function() cluster.status = "online" end)
  return { status = 202, headers = {} }
end

local function remove(world, request)
  local cluster = existing(world, request)
  cluster.gone = true
  world.databases:remove(cluster.id)
  if world.machines then world.machines.destroy_database(cluster.name) end
  return reply.none()
end

local function options(world)
  local slugs, shown = json.array {}, {}
  for _, region in ipairs(world.regions) do
    if region.available then slugs[#slugs + 1] = region.slug end
  end
  for name, engine in pairs(engines) do
    local known = json.array {}
    for size in pairs(sizes) do known[#known + 1] = size end
    table.sort(known)
    shown[name] = { regions = slugs, versions = json.array(table.move(engine.versions, 1,
      #engine.versions, 1, {})), layouts = json.array { { num_nodes = 1, sizes = known } } }
  end
  return reply.json(200, { options = shown, version_availability = {} })
end

---What lies in a cluster: users and databases have the same routes.
local function add_parts(add, kind)
  local base = "/v2/databases/{id}/" .. kind.path
  local function existing_part(world, request)
    local cluster = existing(world, request)
    local part = cluster[kind.list]:get(request.name)
    if not part then reply.not_found() end
    return part, cluster
  end
  add("GET", base, function(world, request)
    local shown = json.array {}
    for index, part in ipairs(existing(world, request)[kind.list].rows) do
      shown[index] = kind.show(part)
    end
    return reply.json(200, { [kind.path] = shown })
  end)
  add("POST", base, function(world, request)
    local cluster, name = existing(world, request), input.text(request.body, "name", true)
    if cluster[kind.list]:get(name) then reply.unprocessable("%s already exists", name) end
    local part = cluster[kind.list]:add(kind.make(world, name))
    return reply.json(201, { [kind.key] = kind.show(part) })
  end)
  add("GET", base .. "/{name}", function(world, request)
    return reply.json(200, { [kind.key] = kind.show((existing_part(world, request))) })
  end)
  add("DELETE", base .. "/{name}", function(world, request)
    local part, cluster = existing_part(world, request)
    if part.role == "primary" then reply.unprocessable("the primary user cannot be deleted") end
    cluster[kind.list]:remove(part.id)
    return reply.none()
  end)
end

local function reset_password(world, request)
  local user = existing(world, request).users:get(request.name)
  if not user then reply.not_found() end
  user.password = password(world)
  return reply.json(200, { user = show_user(user) })
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function databases.routes(add)
  add("GET", "/v2/databases/options", options)
  add("GET", "/v2/databases", list)
  add("POST", "/v2/databases", create)
  add("GET", "/v2/databases/{id}", function(world, request)
    return reply.json(200, { database = show(existing(world, request)) })
  end)
  add("DELETE", "/v2/databases/{id}", remove)
  add("PUT", "/v2/databases/{id}/resize", resize)
  add("GET", "/v2/databases/{id}/firewall", function(world, request)
    return reply.json(200, { rules = existing(world, request).rules })
  end)
  add("PUT", "/v2/databases/{id}/firewall", set_firewall)
  add("GET", "/v2/databases/{id}/ca", function(world, request)
    local real = existing(world, request).real
    return reply.json(200, { ca = {
      certificate = crypto.base64(real and real.ca or authority.certificate),
    } })
  end)
  add_parts(add, { path = "users", key = "user", list = "users", show = show_user,
    make = function(world, name)
      return { id = name, name = name, role = "normal", password = password(world) }
    end })
  add_parts(add, { path = "dbs", key = "db", list = "dbs",
    show = function(row) return { name = row.id } end,
    make = function(_, name) return { id = name } end })
  add("POST", "/v2/databases/{id}/users/{name}/reset_auth", reset_password)
end

return databases
