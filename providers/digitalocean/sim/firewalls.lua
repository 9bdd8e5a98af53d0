---Firewalls: kept and shown; nothing is filtered.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Firewalls
local json = require "kiln.json"
local droplets = require "providers.digitalocean.sim.droplets"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"
local tags = require "providers.digitalocean.sim.tags"

local firewalls = {}

local settle_seconds = 2
local protocols = { tcp = true, udp = true, icmp = true }

---Droplets that a change has yet to reach.
local function pending(world, firewall)
  local changes = json.array {}
  if world.now < firewall.settled_at then
    for index, id in ipairs(firewall.droplet_ids) do
      changes[index] = { droplet_id = id, removing = false, status = "waiting" }
    end
  end
  return changes
end

local function show(world, firewall)
  return {
    id = firewall.id, name = firewall.name, created_at = firewall.created_at,
    status = world.now < firewall.settled_at and "waiting" or "succeeded",
    inbound_rules = firewall.inbound_rules, outbound_rules = firewall.outbound_rules,
    droplet_ids = firewall.droplet_ids, tags = firewall.tags,
    pending_changes = pending(world, firewall),
  }
end

local function rules_of(body, name, peers)
  local rules = input.list(body, name)
  for index, rule in ipairs(rules) do
    if type(rule) ~= "table" or not protocols[rule.protocol] or type(rule[peers]) ~= "table" then
      reply.unprocessable("%s: a rule needs a protocol (tcp, udp, icmp) and %s", name, peers)
    end
    local ports = rule.ports == nil and "0" or tostring(rule.ports)
    if ports == "all" then ports = "0" end
    if not ports:find("^%d+$") and not ports:find("^%d+%-%d+$") then
      reply.unprocessable("%s: invalid ports '%s'", name, ports)
    end
    rules[index] = { protocol = rule.protocol, ports = ports, [peers] = rule[peers] }
  end
  return rules
end

local function droplets_of(world, body)
  local ids = input.list(body, "droplet_ids")
  for index, id in ipairs(ids) do
    local droplet = world:seen("droplets", id)
    if not droplet then reply.unprocessable("droplet %s was not found", tostring(id)) end
    ids[index] = droplet.id
  end
  return ids
end

local function tags_of(world, body)
  local names = input.texts(body, "tags")
  for _, name in ipairs(names) do
    if not world.tags:get(name:lower()) then reply.unprocessable("tag %s does not exist", name) end
  end
  return names
end

---Reads a whole firewall: a PUT replaces everything.
local function read(world, body, firewall)
  local name = input.text(body, "name", true)
  if not name:find("^%w[%w%.%-]+$") then reply.unprocessable("invalid name") end
  local other = world.firewalls:find(function(row) return row.name == name end)
  if other and other ~= firewall then reply.refuse(409, "conflict", "duplicate name") end
  local inbound = rules_of(body, "inbound_rules", "sources")
  local outbound = rules_of(body, "outbound_rules", "destinations")
  if #inbound + #outbound == 0 then
    reply.unprocessable("firewall must have at least one rule")
  end
  local ids, names = droplets_of(world, body), tags_of(world, body)
  firewall.name, firewall.droplet_ids, firewall.tags = name, ids, names
  firewall.inbound_rules, firewall.outbound_rules = inbound, outbound
  firewall.settled_at = world.now + settle_seconds
  return firewall
end

local function existing(world, request)
  local firewall = world:seen("firewalls", request.id)
  if not firewall then reply.not_found() end
  return firewall
end

local function create(world, request)
  local firewall = read(world, request.body, { created_at = world:stamp() })
  firewall.id = world:uuid()
  world:appear("firewalls", firewall)
  return reply.json(202, { firewall = show(world, firewall) })
end

---Adds to a list what is not in it, or takes it out.
local function change(list, items, adds, same)
  local kept = json.array {}
  for _, item in ipairs(list) do
    local named = false
    for _, other in ipairs(items) do named = named or same(item, other) end
    if not named then kept[#kept + 1] = item end
  end
  return adds and table.move(items, 1, #items, #kept + 1, kept) or kept
end

local function equal(a, b) return a == b end

local function same_rule(peers)
  return function(a, b)
    return a.protocol == b.protocol and a.ports == b.ports
      and json.encode(a[peers]) == json.encode(b[peers])
  end
end

local function change_part(part, adds)
  return function(world, request)
    local firewall, body = existing(world, request), request.body
    if part == "droplets" then
      firewall.droplet_ids = change(firewall.droplet_ids, droplets_of(world, body), adds, equal)
    elseif part == "tags" then
      firewall.tags = change(firewall.tags, tags_of(world, body), adds, equal)
    else
      for name, peers in pairs { inbound_rules = "sources", outbound_rules = "destinations" } do
        firewall[name] = change(firewall[name], rules_of(body, name, peers), adds,
          same_rule(peers))
      end
    end
    firewall.settled_at = world.now + settle_seconds
    return reply.none()
  end
end

local function covers(firewall, droplet)
  for _, id in ipairs(firewall.droplet_ids) do
    if id == droplet.id then return true end
  end
  for _, name in ipairs(firewall.tags) do
    if tags.has(droplet, name) then return true end
  end
  return false
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function firewalls.routes(add)
  local function one(world) return function(row) return show(world, row) end end
  add("GET", "/v2/firewalls", function(world, request)
    return reply.page(request, "firewalls", world:visible "firewalls", one(world))
  end)
  add("POST", "/v2/firewalls", create)
  add("GET", "/v2/firewalls/{id}", function(world, request)
    return reply.json(200, { firewall = show(world, existing(world, request)) })
  end)
  add("PUT", "/v2/firewalls/{id}", function(world, request)
    local firewall = read(world, request.body, existing(world, request))
    return reply.json(200, { firewall = show(world, firewall) })
  end)
  add("DELETE", "/v2/firewalls/{id}", function(world, request)
    world.firewalls:remove(existing(world, request).id)
    return reply.none()
  end)
  for _, part in ipairs { "droplets", "tags", "rules" } do
    add("POST", "/v2/firewalls/{id}/" .. part, change_part(part, true))
    add("DELETE", "/v2/firewalls/{id}/" .. part, change_part(part, false))
  end
  add("GET", "/v2/droplets/{id}/firewalls", function(world, request)
    local droplet = droplets.existing(world, request.id)
    local rows = world:visible("firewalls", function(row) return covers(row, droplet) end)
    return reply.page(request, "firewalls", rows, one(world))
  end)
end

return firewalls
