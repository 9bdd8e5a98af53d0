---Certificates for load balancers: a custom one is verified at once, Let's Encrypt's after a while.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#tag/Certificates
local json = require "kiln.json"
local crypto = require "kiln.crypto"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"

local certificates = {}

local valid_seconds = 90 * 86400

local function show(certificate)
  return {
    id = certificate.id, name = certificate.name, type = certificate.type,
    state = certificate.state, dns_names = certificate.dns_names,
    sha1_fingerprint = certificate.fingerprint, created_at = certificate.created_at,
    not_after = certificate.not_after,
  }
end

local function existing(world, request)
  local certificate = world:seen("certificates", request.id)
  if not certificate then reply.not_found() end
  return certificate
end

local function add(world, fields)
  fields.id = world:uuid()
  fields.created_at, fields.not_after = world:stamp(), world:stamp(world.now + valid_seconds)
  fields.fingerprint = crypto.sha256(fields.id):sub(1, 40)
  return world:appear("certificates", fields)
end

local function create_custom(world, body, name)
  for _, field in ipairs { "private_key", "leaf_certificate" } do
    if not input.text(body, field, true):find("^%s*%-%-%-%-%-BEGIN ") then
      reply.unprocessable("%s is invalid: it must be PEM", field)
    end
  end
  return add(world, { name = name, type = "custom", state = "verified", dns_names = json.array {} })
end

local function create_lets_encrypt(world, body, name)
  local names = input.texts(body, "dns_names")
  if #names == 0 then reply.unprocessable("dns_names must have at least one name") end
  for _, dns in ipairs(names) do
    local managed = world.domains:find(function(domain)
      return dns == domain.id or dns:sub(-#domain.id - 1) == "." .. domain.id
    end)
    if not managed then
      reply.unprocessable("%s is not a domain of this account", dns)
    end
  end
  local certificate = add(world, { name = name, type = "lets_encrypt", state = "pending",
    dns_names = names })
  world:becomes(certificate, world.latency.certificate,
    function() certificate.state = "verified" end, function() certificate.state = "error" end)
  return certificate
end

local function create(world, request)
  local body = request.body
  local name, kind = input.text(body, "name", true), input.text(body, "type") or "custom"
  if world.certificates:find(function(row) return row.name == name end) then
    reply.unprocessable("Certificate name is already in use")
  end
  local make = kind == "custom" and create_custom or create_lets_encrypt
  return reply.json(201, { certificate = show(make(world, body, name)) })
end

local function remove(world, request)
  local certificate = existing(world, request)
  for _, balancer in ipairs(world.load_balancers.rows) do
    for _, rule in ipairs(balancer.settings.forwarding_rules) do
      if rule.certificate_id == certificate.id then
        reply.refuse(403, "forbidden",
          "Make sure the certificate is not in use before deleting it")
      end
    end
  end
  world.certificates:remove(certificate.id)
  return reply.none()
end

---Adds the routes.
---@param route fun(method: string, pattern: string, handler: function)
function certificates.routes(route)
  route("GET", "/v2/certificates", function(world, request)
    local name = request.query.name
    return reply.page(request, "certificates", world:visible("certificates", function(row)
      return not name or row.name == name
    end), show)
  end)
  route("POST", "/v2/certificates", create)
  route("GET", "/v2/certificates/{id}", function(world, request)
    return reply.json(200, { certificate = show(existing(world, request)) })
  end)
  route("DELETE", "/v2/certificates/{id}", remove)
end

return certificates
