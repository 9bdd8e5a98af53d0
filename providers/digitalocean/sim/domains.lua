---Domains and their records.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Domains: names in records are
---relative to the domain, `@` is the domain itself, and the filter `name` is a whole name.
local json = require "kiln.json"
local collection = require "providers.digitalocean.sim.collection"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"

local domains = {}

local default_ttl = 1800
local record_types = { A = true, AAAA = true, CAA = true, CNAME = true, MX = true, NS = true,
  SOA = true, SRV = true, TXT = true }

local function show_record(record)
  local shown = { id = record.id, type = record.type, name = record.name, data = record.data,
    ttl = record.ttl }
  for _, name in ipairs { "priority", "port", "weight", "flags", "tag" } do
    shown[name] = record[name] == nil and json.null or record[name]
  end
  return shown
end

local function zone_of(domain)
  local lines = { ("$ORIGIN %s."):format(domain.id), ("$TTL %d"):format(default_ttl) }
  for _, record in ipairs(domain.records.rows) do
    lines[#lines + 1] = ("%s %d IN %s %s"):format(record.name, record.ttl, record.type, record.data)
  end
  return table.concat(lines, "\n") .. "\n"
end

local function show(domain)
  return { name = domain.id, ttl = default_ttl, zone_file = zone_of(domain) }
end

local function existing(world, request)
  local domain = world.domains:get(request.domain)
  if not domain then reply.not_found() end
  return domain
end

local function existing_record(world, request)
  local domain = existing(world, request)
  local record = domain.records:get(request.record)
  if not record then reply.not_found() end
  return record, domain
end

local function add_record(world, domain, record)
  record.id = world:number("record", 28448429)
  record.ttl = record.ttl or default_ttl
  return domain.records:add(record)
end

local function create(world, request)
  local name = input.text(request.body, "name", true):lower()
  if not name:find("^[%w%-%.]+%.%w[%w%-]*$") then reply.unprocessable("Name is invalid") end
  if world.domains:get(name) then reply.unprocessable("Name already exists") end
  local ip = input.text(request.body, "ip_address")
  local domain = world.domains:add {
    id = name, name = name, records = collection.new(),
  }
  add_record(world, domain, { type = "SOA", name = "@", data = "1800", ttl = 1800 })
  for number = 1, 3 do
    add_record(world, domain,
      { type = "NS", name = "@", data = ("ns%d.digitalocean.com"):format(number) })
  end
  if ip and ip ~= "" then add_record(world, domain, { type = "A", name = "@", data = ip }) end
  return reply.json(201, { domain = { name = name, ttl = default_ttl, zone_file = json.null } })
end

local function is_ipv4(text)
  local parts = { text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$") }
  for _, part in ipairs(parts) do
    if tonumber(part) > 255 then return false end
  end
  return #parts == 4
end

---Reads the fields of a record into one; what is left out stays.
local function read_record(body, record)
  for _, name in ipairs { "type", "name", "data", "tag" } do
    record[name] = input.text(body, name) or record[name]
  end
  for _, name in ipairs { "priority", "port", "weight", "flags" } do
    record[name] = input.integer(body, name) or record[name]
  end
  record.ttl = input.integer(body, "ttl") or record.ttl
  if not record_types[record.type] then reply.unprocessable("Type is not included in the list") end
  if not record.data or record.data == "" then reply.unprocessable("Data can't be blank") end
  if not record.name or record.name == "" then reply.unprocessable("Name can't be blank") end
  if record.type == "A" and not is_ipv4(record.data) then
    reply.unprocessable("IP address did not match IPv4 format (e.g. 127.0.0.1).")
  end
  if record.ttl and record.ttl < 30 then reply.unprocessable("TTL must be at least 30") end
  return record
end

local function create_record(world, request)
  local domain = existing(world, request)
  local record = add_record(world, domain, read_record(request.body, {}))
  return reply.json(201, { domain_record = show_record(record) })
end

local function update_record(world, request)
  local record = existing_record(world, request)
  local copy = {}
  for name, value in pairs(record) do copy[name] = value end
  for name, value in pairs(read_record(request.body, copy)) do record[name] = value end
  return reply.json(200, { domain_record = show_record(record) })
end

local function list_records(world, request)
  local domain = existing(world, request)
  local rows = domain.records:list(function(record)
    local whole = record.name == "@" and domain.id or record.name .. "." .. domain.id
    return (not request.query.type or record.type == request.query.type)
      and (not request.query.name or whole == request.query.name:lower())
  end)
  return reply.page(request, "domain_records", rows, show_record)
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function domains.routes(add)
  local records = "/v2/domains/{domain}/records"
  add("GET", "/v2/domains", function(world, request)
    return reply.page(request, "domains", world.domains.rows, show)
  end)
  add("POST", "/v2/domains", create)
  add("GET", "/v2/domains/{domain}", function(world, request)
    return reply.json(200, { domain = show(existing(world, request)) })
  end)
  add("DELETE", "/v2/domains/{domain}", function(world, request)
    world.domains:remove(existing(world, request).id)
    return reply.none()
  end)
  add("GET", records, list_records)
  add("POST", records, create_record)
  add("GET", records .. "/{record}", function(world, request)
    return reply.json(200, { domain_record = show_record((existing_record(world, request))) })
  end)
  add("PUT", records .. "/{record}", update_record)
  add("PATCH", records .. "/{record}", update_record)
  add("DELETE", records .. "/{record}", function(world, request)
    local record, domain = existing_record(world, request)
    domain.records:remove(record.id)
    return reply.none()
  end)
end

return domains
