---DNS records, firewalls, VPCs, volumes, certificates: found by name, made when there are none.
local error_ = require "kiln.error"
local json = require "kiln.json"
local create = require "providers.digitalocean.create"

local network = {}

---Finds a thing by name in a list.
local function named(self, path, key, name)
  for _, one in ipairs(self.api:list(path, key)) do
    if one.name == name then return one end
  end
end

---Makes a thing that its name identifies, unless it is there.
local function ensure(self, spec)
  local function find() return named(self, spec.path, spec.list, spec.body.name) end
  return find() or create(self.api, {
    path = spec.path, body = spec.body, find = find,
    read = function(answer) return answer[spec.key] end,
  })
end

---Makes a domain, unless the account has it. Raises `invalid` when it is somebody else's.
---@async
---@param self kiln.digitalocean.Driver
---@param name string
function network.create_domain(self, name)
  if self.api:find("/v2/domains/" .. name) then return end
  create(self.api, {
    path = "/v2/domains", body = { name = name },
    read = function() return true end,
    find = function() return self.api:find("/v2/domains/" .. name) and true or nil end,
  })
end

---Lists the records of a name; a domain that the account has not, has none. The API's filter wants
---the whole name; rows have the short one.
local function records(self, domain, name, kind)
  local full = name == "@" and domain or name .. "." .. domain
  local ok, rows = xpcall(self.api.list, error_.from, self.api,
    ("/v2/domains/%s/records?name=%s&type=%s"):format(domain, full, kind), "domain_records")
  if ok then return rows end
  if error_.is(rows, "not_found") then return {} end
  error(rows, 0)
end

---Gives the record of a name.
---@async
---@param self kiln.digitalocean.Driver
---@param domain string
---@param name string "@" for the domain itself
---@param kind string "A"
---@return { id: string, data: string, ttl: integer }?
function network.record(self, domain, name, kind)
  local one = records(self, domain, name, kind)[1]
  return one and { id = tostring(one.id), data = one.data, ttl = one.ttl }
end

---Makes a record say something; several of one name and type raise `exists`.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { domain: string, name: string, type: string?, data: string, ttl: integer? }
---  ("A", 60 seconds)
---@return boolean changed
function network.set_record(self, spec)
  local kind, ttl = spec.type or "A", spec.ttl or 60
  local there = records(self, spec.domain, spec.name, kind)
  if #there > 1 then
    error_.raise { kind = "exists", message = ("%s.%s has %d %s records, kiln changes only one "
      .. "that is alone"):format(spec.name, spec.domain, #there, kind) }
  end
  local path = ("/v2/domains/%s/records"):format(spec.domain)
  local body = { type = kind, name = spec.name, data = spec.data, ttl = ttl }
  if there[1] then
    if there[1].data == spec.data and there[1].ttl == ttl then return false end
    self.api:call("PUT", path .. "/" .. there[1].id, body)
    return true
  end
  create(self.api, {
    path = path, body = body,
    read = function() return true end,
    find = function() return records(self, spec.domain, spec.name, kind)[1] and true or nil end,
  })
  return true
end

---Where a record's owner is written: a TXT record beside it, as external-dns does
---(https://kubernetes-sigs.github.io/external-dns/latest/docs/registry/txt/). It has a name of its
---own: a CNAME bears nothing beside it.
local function mark_name(name)
  return name == "@" and "_kiln" or "_kiln." .. name
end

local owner_fields = { "project", "env", "service" }

local function mark_text(tags)
  local words = { "heritage=kiln" }
  for _, field in ipairs(owner_fields) do
    words[#words + 1] = ("kiln/%s=%s"):format(field, tags["kiln_" .. field])
  end
  return table.concat(words, ",")
end

---Lists the marks of a name, the oldest first.
local function record_marks(self, domain, name)
  local marks = {}
  for _, row in ipairs(records(self, domain, mark_name(name), "TXT")) do
    local text = row.data:gsub('^"(.*)"$', "%1")
    if text:find "^heritage=kiln," then
      local tags = {}
      for field, value in text:gmatch "kiln/(%w+)=([^,]*)" do tags["kiln_" .. field] = value end
      marks[#marks + 1] = { id = row.id, text = text, tags = tags }
    end
  end
  table.sort(marks, function(a, b) return a.id < b.id end)
  return marks
end

---Returns the labels of whoever claimed a record's name, nil when nobody did.
---@async
---@param self kiln.digitalocean.Driver
---@param domain string
---@param name string "@" for the domain itself
---@return table<string, string>? tags
function network.record_owner(self, domain, name)
  local oldest = record_marks(self, domain, name)[1]
  return oldest and oldest.tags
end

---Claims a record's name, unless somebody has. Of two that do so at the same time, the one whose
---mark is older has it, and the other one's mark is removed.
---@async
---@param self kiln.digitalocean.Driver
---@param domain string
---@param name string "@" for the domain itself
---@param tags table<string, string> kiln_project, kiln_env, kiln_service
---@return table<string, string> tags of the one that has it
function network.claim_record(self, domain, name, tags)
  local path, text = ("/v2/domains/%s/records"):format(domain), mark_text(tags)
  if not network.record_owner(self, domain, name) then
    create(self.api, {
      path = path, body = { type = "TXT", name = mark_name(name), data = text, ttl = 60 },
      read = function() return true end,
      find = function() return network.record_owner(self, domain, name) and true or nil end,
    })
  end
  local marks = record_marks(self, domain, name)
  for index = 2, #marks do
    if marks[index].text == text then self.api:delete(path .. "/" .. marks[index].id) end
  end
  return marks[1] and marks[1].tags or tags
end

---Makes a firewall have these rules. Its rules are replaced as a whole, which is what PUT does.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, tags: string[], inbound: table[], outbound: table[]? } rules as the
---  API has them; outbound lets everything out by default
---@return table firewall { id, name }
function network.set_firewall(self, spec)
  local anywhere = { addresses = json.array { "0.0.0.0/0", "::/0" } }
  local body = {
    name = spec.name, tags = json.array(spec.tags), inbound_rules = json.array(spec.inbound),
    outbound_rules = json.array(spec.outbound or {
      { protocol = "tcp", ports = "all", destinations = anywhere },
      { protocol = "udp", ports = "all", destinations = anywhere },
      { protocol = "icmp", destinations = anywhere },
    }),
  }
  for _, tag in ipairs(spec.tags) do self.tags:make(tag) end
  local there = named(self, "/v2/firewalls", "firewalls", spec.name)
  if there then
    self.api:call("PUT", "/v2/firewalls/" .. there.id, body)
    return { id = there.id, name = spec.name }
  end
  local made = ensure(self, {
    path = "/v2/firewalls", list = "firewalls", key = "firewall", body = body,
  })
  return { id = made.id, name = spec.name }
end

---Makes a VPC, unless there is one of that name.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, ip_range: string? }
---@return table vpc { id, name, ip_range }
function network.create_vpc(self, spec)
  local made = ensure(self, { path = "/v2/vpcs", list = "vpcs", key = "vpc",
    body = { name = spec.name, region = self.options.region, ip_range = spec.ip_range } })
  return { id = made.id, name = made.name, ip_range = made.ip_range }
end

---Makes a volume, unless there is one of that name in the region.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, gigabytes: integer, filesystem: string? } ("ext4")
---@return table volume { id, name, gigabytes, machine }
function network.create_volume(self, spec)
  local made = ensure(self, { path = "/v2/volumes", list = "volumes", key = "volume",
    body = { name = spec.name, region = self.options.region, size_gigabytes = spec.gigabytes,
      filesystem_type = spec.filesystem or "ext4" } })
  local machine = (made.droplet_ids or {})[1]
  return { id = made.id, name = made.name, gigabytes = made.size_gigabytes,
    machine = machine and tostring(machine) }
end

---Attaches a volume to a machine, or detaches it (nil). Raises `failed`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param machine_id? string
function network.attach_volume(self, id, machine_id)
  local volume = self.api:call("GET", "/v2/volumes/" .. id).volume
  local current = (volume.droplet_ids or {})[1]
  local wanted = machine_id and math.tointeger(tonumber(machine_id))
  if current == wanted then return end
  local action = self.api:serial("POST", ("/v2/volumes/%s/actions"):format(id), {
    type = wanted and "attach" or "detach", droplet_id = wanted or current,
    region = self.options.region,
  }).action
  self.wait:action(action, ("volume %s"):format(volume.name), { within = 180 })
end

---Makes a certificate of Let's Encrypt, unless there is one of that name, and waits until it may be
---used. Raises `failed`, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, domains: string[] }
---@return table certificate { id, name }
function network.create_certificate(self, spec)
  local made = ensure(self, { path = "/v2/certificates", list = "certificates",
    key = "certificate", body = { name = spec.name, type = "lets_encrypt",
      dns_names = json.array(spec.domains) } })
  return self.wait:answer {
    path = "/v2/certificates/" .. made.id, what = "certificate " .. spec.name,
    kind = "certificate", within = 600, grid = 1,
    seen = function(answer)
      local state = answer and answer.certificate.state
      if state == "error" then
        error_.raise { kind = "failed", message = ("certificate %s could not be verified; do "
          .. "DigitalOcean's name servers serve %s?"):format(spec.name, spec.domains[1]) }
      end
      return state == "verified" and { id = made.id, name = spec.name } or nil
    end,
  }
end

---Deletes a thing by its path; one that is gone already is fine.
---@async
---@param self kiln.digitalocean.Driver
---@param kind "firewalls"|"vpcs"|"volumes"|"certificates"|"domains"
---@param id string
function network.destroy(self, kind, id)
  self.api:delete(("/v2/%s/%s"):format(kind, id))
end

return network
