---What an answer of the API must have. A success without it (`{}`, nulls, a gateway's page, another
---type) tells nothing, so it is as good as no answer.
---
---A shape names the fields that this driver reads. What the API may leave out is `optional`.
---
---Source: https://github.com/digitalocean/openapi, resources/*/models: a collection's list is named
---after it, a single thing has its name in the singular.
local json = require "kiln.json"
local shapes = require "providers.digitalocean.shapes"

local answers = {}

local list, object, optional = shapes.list, shapes.object, shapes.optional
local text, name, whole = shapes.text, shapes.name, shapes.whole

local network = object { type = text, ip_address = text }
local networks = object { v4 = list(network) }
local new_networks = optional(object { v4 = optional(list(network)) })

local droplet_fields = object {
  id = whole, name = name, status = text, tags = list(text), created_at = optional(text),
  image = object { id = whole, slug = optional(text) },
  size = optional(object { price_monthly = optional(shapes.number) }),
}

---A droplet that is being created may have no networks yet; an active one has at least the list.
local function droplet(value, place)
  local problem = droplet_fields(value, place)
  if problem then return problem end
  local shape = value.status == "active" and networks or new_networks
  return shape(value.networks, place .. ".networks")
end

local action = object {
  id = whole, status = name, type = text, started_at = optional(text),
  completed_at = optional(text), region_slug = optional(text),
}

---Some engines tell a password only once, so a list may lack it. Who needs one checks that.
local connection = object {
  host = text, port = whole, user = optional(text), database = optional(text),
  ssl = optional(shapes.flag),
}

local database_fields = object {
  id = name, name = name, status = text, tags = optional(list(text)), engine = optional(text),
  version = optional(text), private_connection = optional(object {}),
  connection = optional(object {}),
}

---A database that is online can be reached, from its private network or from everywhere.
local function database(value, place)
  local problem = database_fields(value, place)
  if problem or value.status ~= "online" then return problem end
  local way = type(value.private_connection) == "table" and "private_connection" or "connection"
  return connection(value[way], place .. "." .. way)
end

local health = optional(object {
  check_interval_seconds = optional(whole), healthy_threshold = optional(whole),
})

---A thing by its collection's part of a path.
---@type table<string, { one: string, list: string?, shape: kiln.digitalocean.Shape }>
local things = {
  account = { one = "account", shape = object { status = name, email = text,
    droplet_limit = whole } },
  actions = { one = "action", shape = action },
  certificates = { one = "certificate", shape = object { id = name, name = name, state = text } },
  databases = { one = "database", shape = database },
  domains = { one = "domain", shape = object { name = name } },
  droplets = { one = "droplet", shape = droplet },
  firewalls = { one = "firewall", shape = object { id = name, name = name } },
  images = { one = "image", shape = object { id = whole, name = text, slug = optional(text),
    tags = optional(list(text)), regions = list(text), created_at = optional(text),
    size_gigabytes = optional(shapes.number) } },
  keys = { one = "ssh_key", list = "ssh_keys", shape = object { id = whole } },
  load_balancers = { one = "load_balancer", shape = object { id = name, name = name, status = text,
    ip = optional(text), droplet_ids = optional(list(whole)), tag = optional(text),
    forwarding_rules = list(object { entry_port = whole }), health_check = health } },
  projects = { one = "project", shape = object { id = name, name = name } },
  records = { one = "domain_record", list = "domain_records",
    shape = object { id = whole, name = name, type = name, data = text, ttl = optional(whole) } },
  regions = { one = "region", shape = object { slug = name, available = shapes.flag } },
  reserved_ips = { one = "reserved_ip", shape = object { ip = name,
    droplet = optional(object { id = optional(whole) }), locked = optional(shapes.flag),
    region = optional(object { slug = text }) } },
  sizes = { one = "size", shape = object { slug = name, regions = list(text) } },
  snapshots = { one = "snapshot", shape = object { id = shapes.id, name = text } },
  tags = { one = "tag", shape = object { name = name } },
  volumes = { one = "volume", shape = object { id = name, name = name, size_gigabytes = whole,
    droplet_ids = optional(list(whole)) } },
  vpcs = { one = "vpc", shape = object { id = name, name = name, ip_range = text } },
}

---Collections that are found below another thing: /v2/droplets/3/actions.
local inner = { actions = true, keys = true, records = true, snapshots = true }

---Answers to a GET of one thing's part: /v2/databases/3/ca.
local parts = {
  ca = object { ca = object { certificate = name } },
  firewall = object { rules = list(object { type = text, value = text, uuid = optional(text) }) },
}

---One's own load balancer that is active has an address; of others' it does not matter.
local function balancer(value, place)
  local problem = things.load_balancers.shape(value, place)
  if problem or value.status ~= "active" then return problem end
  return text(value.ip, place .. ".ip")
end

local links = optional(object { pages = optional(object { next = optional(text) }) })

---The shapes of a collection's answers: its list, what a POST of several gives, one thing.
for collection, thing in pairs(things) do
  local key = thing.list or collection
  thing.page = object { [key] = list(thing.shape), links = links,
    meta = collection == "droplets" and object { total = whole } or nil }
  thing.several = object { [key] = list(thing.shape, 1) }
  thing.single = object { [thing.one] = thing.shape }
end
things.load_balancers.single = object { load_balancer = balancer }

local function split(path)
  local words = {}
  for word in path:match("^/v2/([^?]*)"):gmatch("[^/]+") do words[#words + 1] = word end
  return words
end

---Returns the shape of what a request is answered with; nil when nothing in it is read.
local function shape_of(method, path, answer)
  local words = split(path)
  local last, before = words[#words], words[#words - 1]
  if last == "account" then return things.account.single end
  if #words == 3 and method == "GET" and parts[last] then return parts[last] end
  local thing = things[last]
  if thing and (#words == 1 or inner[last]) then
    if method == "GET" then return thing.page end
    if type(answer) ~= "table" then return thing.single end
    if last == "droplets" and answer.droplets ~= nil then return thing.several end
    -- An image's action is not wrapped.
    return last == "actions" and answer.action == nil and answer.id ~= nil and thing.shape
      or thing.single
  end
  local item = before and things[before] and (#words == 2 or inner[before])
  return item and method ~= "POST" and things[before].single or nil
end

---Returns what a successful answer lacks of what its request is for: "without droplets[1].id".
---@param method string
---@param path string "/v2/droplets/3", with its query
---@param answer table|boolean
---@return string? problem nil for a whole answer
function answers.problem(method, path, answer)
  if method == "DELETE" then return nil end
  local shape = shape_of(method, path, answer)
  if not shape then return nil end
  if type(answer) ~= "table" or json.is_array(answer) then return "without an object" end
  return shape(answer, "")
end

---Removes null fields: to this driver null and missing are the same.
---@param value any
---@return any value the same table
function answers.without_nulls(value)
  if type(value) ~= "table" then return value end
  local list_ = json.is_array(value)
  for key, item in pairs(value) do
    if item ~= json.null then answers.without_nulls(item) elseif not list_ then value[key] = nil end
  end
  return value
end

return answers
