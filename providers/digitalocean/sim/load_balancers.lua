---Load balancers: by droplet ids or by tag; one change at a time; PUT replaces everything.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Load-Balancers; that a second
---change is answered 403: github.com/digitalocean/openapi issue 1173.
local json = require "kiln.json"
local catalogue = require "providers.digitalocean.sim.catalogue"
local input = require "providers.digitalocean.sim.input"
local projects = require "providers.digitalocean.sim.projects"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"
local vpcs = require "providers.digitalocean.sim.vpcs"

local load_balancers = {}

local most_droplets = 10

local function droplet_ids(world, balancer)
  local ids = json.array {}
  for _, droplet in ipairs(world:visible "droplets") do
    local member = balancer.tag and tags.has(droplet, balancer.tag)
      and droplet.region.slug == balancer.region
    for _, id in ipairs(balancer.droplet_ids) do member = member or id == droplet.id end
    if member then ids[#ids + 1] = droplet.id end
  end
  return ids
end

local function show(world, balancer)
  local shown = {
    id = balancer.id, name = balancer.name, status = balancer.status,
    ip = world.now >= (balancer.ip_at or math.huge) and balancer.ip or "",
    created_at = balancer.created_at, tag = balancer.tag or "",
    droplet_ids = droplet_ids(world, balancer),
    region = catalogue.by_slug(world.regions, balancer.region), vpc_uuid = balancer.vpc_uuid,
    project_id = projects.of(world, "do:loadbalancer:" .. balancer.id),
  }
  for name, value in pairs(balancer.settings) do shown[name] = value end
  return shown
end

local function with_defaults(given, defaults)
  local out = {}
  for name, value in pairs(defaults) do out[name] = value end
  for name, value in pairs(type(given) == "table" and given or {}) do out[name] = value end
  return out
end

local function rules_of(body)
  local rules = input.list(body, "forwarding_rules")
  if #rules == 0 then reply.unprocessable("at least one forwarding rule must be provided") end
  for index, rule in ipairs(rules) do
    for _, name in ipairs { "entry_protocol", "entry_port", "target_protocol", "target_port" } do
      if type(rule) ~= "table" or rule[name] == nil then
        reply.unprocessable("forwarding_rules: %s is missing", name)
      end
    end
    rules[index] = with_defaults(rule, { certificate_id = "", tls_passthrough = false })
  end
  return rules
end

local function check_certificates(world, rules)
  for _, rule in ipairs(rules) do
    if rule.certificate_id ~= "" and not world.certificates:get(rule.certificate_id) then
      reply.unprocessable("certificate %s was not found", rule.certificate_id)
    end
  end
end

---Everything that a PUT resets when it leaves it out.
local function settings_of(world, body)
  local rules = rules_of(body)
  check_certificates(world, rules)
  return {
    forwarding_rules = rules,
    algorithm = input.text(body, "algorithm") or "round_robin",
    health_check = with_defaults(body.health_check, { protocol = "http", port = 80, path = "/",
      check_interval_seconds = 10, response_timeout_seconds = 5, unhealthy_threshold = 5,
      healthy_threshold = 3 }),
    sticky_sessions = with_defaults(body.sticky_sessions, { type = "none" }),
    redirect_http_to_https = body.redirect_http_to_https == true,
    enable_proxy_protocol = body.enable_proxy_protocol == true,
    enable_backend_keepalive = body.enable_backend_keepalive == true,
    http_idle_timeout_seconds = input.integer(body, "http_idle_timeout_seconds") or 60,
    disable_lets_encrypt_dns_records = body.disable_lets_encrypt_dns_records == true,
    size_unit = input.integer(body, "size_unit") or 1,
    firewall = with_defaults(body.firewall, { deny = json.array {}, allow = json.array {} }),
  }
end

local function members_of(world, body, region)
  local tag, ids = input.text(body, "tag"), input.list(body, "droplet_ids")
  if tag == "" then tag = nil end
  if tag and #ids > 0 then
    reply.unprocessable("only one of tag or droplet_ids may be specified")
  end
  if #ids > most_droplets then
    reply.unprocessable("a load balancer takes at most %d droplets by id", most_droplets)
  end
  for index, id in ipairs(ids) do
    local droplet = world:seen("droplets", id)
    if not droplet or droplet.region.slug ~= region then
      reply.unprocessable("droplet %s was not found in region %s", tostring(id), region)
    end
    ids[index] = droplet.id
  end
  return tag and tags.ensure(world, { tag })[1], ids
end

local function region_of(world, body)
  local region = catalogue.by_slug(world.regions, input.text(body, "region", true))
  if not region or not region.available then reply.unprocessable("region is invalid") end
  return region.slug
end

---What a load balancer does at the moment, for the one that passes the traffic.
local function view_of(world, balancer)
  local members = {}
  for _, id in ipairs(droplet_ids(world, balancer)) do
    local droplet = world.droplets:get(id)
    if droplet and droplet.address and droplet.status == "active" then
      members[#members + 1] = { id = id, address = droplet.address }
    end
  end
  return { members = members, rules = balancer.settings.forwarding_rules,
    health = balancer.settings.health_check }
end

local function create(world, request)
  local body = request.body
  if #world.load_balancers.rows >= world.limits.load_balancers then
    reply.unprocessable("load balancer limit of %d reached", world.limits.load_balancers)
  end
  local name, region = input.text(body, "name", true), region_of(world, body)
  local tag, ids = members_of(world, body, region)
  local settings = settings_of(world, body)
  local number = world:number("load_balancer", 5)
  local fault = world.fault or {}
  local balancer = world:appear("load_balancers", {
    id = world:uuid(), name = name, region = region, tag = tag, droplet_ids = ids, status = "new",
    settings = settings, created_at = world:stamp(), vpc_uuid =
      vpcs.choose(world, input.text(body, "vpc_uuid"), region).id,
    ip = ("198.19.200.%d"):format(number),
  })
  local job = world.machines and world.machines.balance(balancer.id, function()
    return view_of(world, balancer)
  end)
  world:becomes(balancer, world.latency.load_balancer, function(ended)
    balancer.status = "active"
    balancer.ip = ended and ended.value.ip or balancer.ip
    balancer.ip_at = world.now + (fault.kind == "no_address" and (fault.seconds or 10) or 0)
  end, function() balancer.status = "errored" end, job)
  return reply.json(202, { load_balancer = show(world, balancer) })
end

local function existing(world, request)
  local balancer = world:seen("load_balancers", request.id)
  if not balancer then reply.not_found() end
  return balancer
end

---Begins a change: while one is processed the next is refused.
local function change(world, request)
  local balancer = existing(world, request)
  if balancer.status == "new" or world.now < (balancer.busy_until or 0) then
    reply.refuse(403, "forbidden",
      "Load Balancer can't be updated while it processes previous actions")
  end
  return balancer
end

local function changed(world, balancer)
  balancer.busy_until = world.now + world.latency.load_balancer_update
end

local function replace(world, request)
  local balancer, body = change(world, request), request.body
  local name = input.text(body, "name", true)
  if body.region ~= nil and region_of(world, body) ~= balancer.region then
    reply.unprocessable("region cannot be changed")
  end
  local tag, ids = members_of(world, body, balancer.region)
  balancer.settings = settings_of(world, body)
  balancer.name, balancer.tag, balancer.droplet_ids = name, tag, ids
  changed(world, balancer)
  return reply.json(200, { load_balancer = show(world, balancer) })
end

local function change_droplets(world, request, adds)
  local balancer = change(world, request)
  if balancer.tag then
    reply.unprocessable("droplets cannot be added to or removed from a load balancer with a tag")
  end
  local _, ids = members_of(world, { droplet_ids = request.body.droplet_ids }, balancer.region)
  local named, kept = {}, json.array {}
  for _, id in ipairs(ids) do named[id] = true end
  for _, id in ipairs(balancer.droplet_ids) do
    if not named[id] then kept[#kept + 1] = id end
  end
  if adds then table.move(ids, 1, #ids, #kept + 1, kept) end
  if #kept > most_droplets then
    reply.unprocessable("a load balancer takes at most %d droplets by id", most_droplets)
  end
  balancer.droplet_ids = kept
  changed(world, balancer)
  return reply.none()
end

local function same_entry(a, b)
  return a.entry_protocol == b.entry_protocol and a.entry_port == b.entry_port
end

local function change_rules(world, request, adds)
  local balancer = change(world, request)
  local given, kept = rules_of(request.body), json.array {}
  check_certificates(world, given)
  for _, rule in ipairs(balancer.settings.forwarding_rules) do
    local named = false
    for _, other in ipairs(given) do named = named or same_entry(rule, other) end
    if not named then kept[#kept + 1] = rule end
  end
  if adds then table.move(given, 1, #given, #kept + 1, kept) end
  if #kept == 0 then reply.unprocessable("at least one forwarding rule must be left") end
  balancer.settings.forwarding_rules = kept
  changed(world, balancer)
  return reply.none()
end

local function remove(world, request)
  local balancer = existing(world, request)
  balancer.gone = true
  world.load_balancers:remove(balancer.id)
  if world.machines then world.machines.end_balance(balancer.id) end
  return reply.none()
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function load_balancers.routes(add)
  add("GET", "/v2/load_balancers", function(world, request)
    return reply.page(request, "load_balancers", world:visible "load_balancers", function(row)
      return show(world, row)
    end)
  end)
  add("POST", "/v2/load_balancers", create)
  add("GET", "/v2/load_balancers/{id}", function(world, request)
    return reply.json(200, { load_balancer = show(world, existing(world, request)) })
  end)
  add("PUT", "/v2/load_balancers/{id}", replace)
  add("DELETE", "/v2/load_balancers/{id}", remove)
  for method, adds in pairs { POST = true, DELETE = false } do
    add(method, "/v2/load_balancers/{id}/droplets", function(world, request)
      return change_droplets(world, request, adds)
    end)
    add(method, "/v2/load_balancers/{id}/forwarding_rules", function(world, request)
      return change_rules(world, request, adds)
    end)
  end
end

return load_balancers
