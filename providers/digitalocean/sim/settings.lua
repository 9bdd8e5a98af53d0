---What may be set about the simulated cloud, and what the simulator leaves out.
local error_ = require "kiln.error"

local settings = {}

---Seconds that things take: the middle of what public logs and issue threads report; a spec or a
---bench sets its own.
settings.latency = {
  create = 40, visible = 0, address = 0, off = 7, on = 7, reboot = 15, rename = 1, resize = 60,
  snapshot = 60, transfer = 600, assign = 6, destroy = 4, load_balancer = 90,
  load_balancer_update = 5, database = 240, certificate = 20, attach = 4,
}

---Limits of a new account, and the API's rate limits.
settings.limits = {
  droplets = 25, reserved_ips = 3, volumes = 100, load_balancers = 10, hour = 5000, minute = 250,
  keys_minute = 10, reserved_ips_minute = 12,
}

---What the simulator does not model, for people who rely on it.
settings.gaps = {
  "app platform, kubernetes, functions, registries, spaces, monitoring, uptime, billing: 501",
  "backups, autoscale pools, GPU droplets, GradientAI: 501 or empty lists",
  "destroy_with_associated_resources: 501",
  "IPv6 addresses: a droplet has none, with ipv6 too",
  "VPC peerings and VPC-native routing: 501; a VPC is a name, nothing is kept apart",
  "custom images by URL and image transfers between accounts: 501",
  "databases: a row with a connection; replicas, pools, topics, migrations: 501",
  "load balancers without local machines: no traffic passes; health of members is not in the API",
  "firewalls are kept and shown, nothing is filtered; with local machines a database is closed to "
    .. "all that its rules never named, also where it has none",
  "domains: records are kept, no name server answers; the SOA serial does not grow",
  "the metadata service at 169.254.169.254",
  "prices, invoices and quotas other than the listed limits",
  "the rate limit counts requests of all tokens together",
}

local unmodelled = {
  "^/v2/apps", "^/v2/kubernetes", "^/v2/functions", "^/v2/registr", "^/v2/monitoring",
  "^/v2/uptime", "^/v2/customers", "^/v2/gen%-ai", "^/v2/1%-clicks", "^/v2/cdn", "^/v2/spaces",
  "^/v2/droplets/backups", "^/v2/droplets/autoscale", "destroy_with_associated_resources",
  "^/v2/vpcs/[^/]+/peerings", "^/v2/vpc_peerings", "/account_transfer", "^/v2/reserved_ipv6",
  "^/v2/byoip", "^/v2/partner", "^/v2/nfs", "^/v2/security", "^/v2/addons", "^/v2/vpc_nat",
  "^/v2/databases/[^/]+/[^/]+", "^/v2/load_balancers/[^/]+/cache",
}

---Tells whether a path is one of the real API that the simulator leaves out.
---@param path string
---@return boolean
function settings.is_gap(path)
  for _, pattern in ipairs(unmodelled) do
    if path:find(pattern) then return true end
  end
  return false
end

---Gives defaults with some of them set anew. Raises `usage` for a name that has no default.
---@param what string "latency", for the message
---@param defaults table<string, number>
---@param given table<string, number>?
---@return table<string, number>
function settings.merge(what, defaults, given)
  local out = {}
  for name, value in pairs(defaults) do out[name] = value end
  for name, value in pairs(given or {}) do
    if not defaults[name] then
      local names = {}
      for known in pairs(defaults) do names[#names + 1] = known end
      table.sort(names)
      error_.raise { kind = "usage", message = ("there is no %s '%s'; there are: %s")
        :format(what, tostring(name), table.concat(names, " ")) }
    end
    if type(value) ~= "number" or value < 0 then
      error_.raise { kind = "usage",
        message = ("%s %s must be a number from 0"):format(what, name) }
    end
    out[name] = value
  end
  return out
end

return settings
