---The account, its limits, and what the cloud offers: regions and sizes.
local reply = require "providers.digitalocean.sim.reply"

local account = {}

local function show(world)
  return {
    droplet_limit = world.limits.droplets, floating_ip_limit = world.limits.reserved_ips,
    reserved_ip_limit = world.limits.reserved_ips, volume_limit = world.limits.volumes,
    email = "kiln@example.com", name = "Simulated Account",
    uuid = "b6fr89dbf6d9156cace5f3c78dc9851d957381ef", email_verified = true, status = "active",
    status_message = "", team = { uuid = "5df3e3004a17e242b7c20ca6c9fc25b701a47ece",
      name = "Simulated Team" },
  }
end

---Adds the routes.
---@param add fun(method: string, pattern: string, handler: function)
function account.routes(add)
  add("GET", "/v2/account", function(world) return reply.json(200, { account = show(world) }) end)
  add("GET", "/v2/regions", function(world, request)
    return reply.page(request, "regions", world.regions, function(row) return row end)
  end)
  add("GET", "/v2/sizes", function(world, request)
    return reply.page(request, "sizes", world.sizes, function(row) return row end)
  end)
end

return account
