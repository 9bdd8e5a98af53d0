---What an answer of the API must have: a success without it (`{}`, nulls, a gateway's page) tells
---nothing, so it is as good as no answer.
---
---Source: https://github.com/digitalocean/openapi: a collection's list is named after it, a single
---thing has its name in the singular.
local answers = {}

---The name of one thing, by its collection's part of a path.
local singular = {
  account = "account", actions = "action", certificates = "certificate", databases = "database",
  domains = "domain", droplets = "droplet", firewalls = "firewall", images = "image",
  keys = "ssh_key", load_balancers = "load_balancer", projects = "project",
  records = "domain_record", reserved_ips = "reserved_ip", snapshots = "snapshot", tags = "tag",
  volumes = "volume", vpcs = "vpc",
}

---Collections that are found below another thing: /v2/droplets/3/actions.
local inner = { actions = true, keys = true, records = true, snapshots = true }

local plural = { keys = "ssh_keys", records = "domain_records" }

---The field that names a thing.
local identity = { account = "status", domain = "name", reserved_ip = "ip", tag = "name" }

local function names_something(thing, name)
  if type(thing) ~= "table" then return false end
  local value = thing[identity[name] or "id"]
  return type(value) == "string" and value ~= "" or math.type(value) == "integer"
end

local function parts_of(path)
  local parts = {}
  for part in path:match("^/v2/([^?]*)"):gmatch("[^/]+") do parts[#parts + 1] = part end
  return parts
end

---Tells what a request is answered with: one thing, or a list.
---@return string? name of one thing
---@return string? list the list's name, nil for one thing
local function expected(method, path)
  local parts = parts_of(path)
  local last, before = parts[#parts], parts[#parts - 1]
  if singular[last] and (#parts == 1 or inner[last]) and last ~= "account" then
    return singular[last], method == "GET" and (plural[last] or last) or nil
  end
  if last == "account" then return "account" end
  local item = before and singular[before] and (#parts == 2 or inner[before])
  return item and method ~= "POST" and singular[before] or nil
end

---Tells whether a successful answer has what its request is for.
---@param method string
---@param path string "/v2/droplets/3", with its query
---@param answer table|boolean
---@return boolean
function answers.is_whole(method, path, answer)
  if method == "DELETE" then return true end
  local name, list = expected(method, path)
  if not name then return true end
  if type(answer) ~= "table" then return false end
  if name == "droplet" and method == "POST" and answer.droplets then list = "droplets" end
  if not list then
    -- An image's action is not wrapped.
    return names_something(answer[name], name) or name == "action" and answer.id ~= nil
      and names_something(answer, name)
  end
  if type(answer[list]) ~= "table" then return false end
  for _, thing in ipairs(answer[list]) do
    if not names_something(thing, name) then return false end
  end
  return method == "GET" or #answer[list] > 0
end

return answers
