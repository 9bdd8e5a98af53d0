---SSH keys of the account, by id or by MD5 fingerprint.
---
---Listing them has a rate limit of its own, 10 requests in 60 seconds
---(https://docs.digitalocean.com/reference/api/digitalocean/#tag/SSH-Keys).
local crypto = require "kiln.crypto"
local input = require "providers.digitalocean.sim.input"
local reply = require "providers.digitalocean.sim.reply"

local keys = {}

local function show(key)
  return { id = key.id, fingerprint = key.fingerprint, public_key = key.public_key,
    name = key.name }
end

---Finds a key by id or fingerprint.
---@param world kiln.do.sim.World
---@param name string|integer
---@return table? key
function keys.find(world, name)
  return world.keys:get(name)
    or world.keys:find(function(key) return key.fingerprint == tostring(name) end)
end

local function existing(world, request)
  local key = keys.find(world, request.id)
  if not key then reply.not_found() end
  return key
end

local function create(world, request)
  local name = input.text(request.body, "name", true)
  local public = input.text(request.body, "public_key", true)
  local ok, fingerprint = pcall(crypto.md5_fingerprint, public)
  if not ok then
    reply.unprocessable("Key invalid, key should be of the format `type key [comment]`")
  end
  if keys.find(world, fingerprint) then
    reply.unprocessable("SSH Key is already in use on your account")
  end
  local key = world.keys:add {
    id = world:number("key", 512189), name = name, public_key = public, fingerprint = fingerprint,
  }
  return reply.json(201, { ssh_key = show(key) })
end

local function rename(world, request)
  local key = existing(world, request)
  key.name = input.text(request.body, "name") or key.name
  return reply.json(200, { ssh_key = show(key) })
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function keys.routes(add)
  add("GET", "/v2/account/keys", function(world, request)
    request.at_most("keys", world.limits.keys_minute)
    return reply.page(request, "ssh_keys", world.keys.rows, show)
  end)
  add("POST", "/v2/account/keys", create)
  add("GET", "/v2/account/keys/{id}", function(world, request)
    return reply.json(200, { ssh_key = show(existing(world, request)) })
  end)
  add("PUT", "/v2/account/keys/{id}", rename)
  add("DELETE", "/v2/account/keys/{id}", function(world, request)
    world.keys:remove(existing(world, request).id)
    return reply.none()
  end)
end

return keys
