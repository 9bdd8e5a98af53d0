---`run.cloud`: a provider's driver behind journaled operations.
---
---A driver is what `providers/<name>` returns from `new(options)`. Its rows are plain tables:
---
---  Machine  { id, name, address, state = "new"|"running"|"stopped", image, tags, token, created }
---  Image    { id, name, token, created, bytes, data }
---  Address  { id, name, ip, target = machine id or nil, tags }
---  Balancer { id, name, ip, members = machine ids }
---  Database { id, name, host, port, user, database, ssl, state = "creating"|"online" }
---
---its limits where it has any ({ user_data = bytes }), and its methods, each of which may wait and
---raises kiln.Error:
---
---  check() -> problems   create_machine{…}  find_machine(token)  machine(id)  machines{ tag = }
---  power_off(id, { told = })  destroy_machine(id)  find_base(name)  base_image(name, progress)
---  snapshot{…}  find_image{ name = | token = }  images()  destroy_image(id)
---  targets() -> the machine ids that any front leads to, whoever made it
---  with `addresses`: address(name)  create_address{…}  discard_address{…}  addresses()
---  assign_address(id, machine_id|nil)  destroy_address(id)
---  with `connections`: connections(address_id, machine_id)
---  with `load_balancers`: balancers()  balancer(name)  create_balancer{…}
---  set_members(id, machine ids)  destroy_balancer(id)
---  with `databases`: database(name)  create_database{…}  await_database(id)  database_secrets(id)
---  allow_database(id, key, value)  destroy_database(id)
---  with `dns`: create_domain(name)  record(domain, name, type)  set_record{…}
---  record_owner(domain, name) -> tags | nil  claim_record(domain, name, tags) -> the owner's tags
---  with `firewalls`: set_firewall{…}
---  where it has them: create_machines{ many }  await_machine(id, within)  preflight{…}
---  copy_image(id, regions)  known_addresses()  request(method, path, body)
---  where machines go down with a host: revive() starts those that did and repairs their network
---  -> { name, problem, repaired }[]; broken() -> { name, message }[], repair() -> string?
---
---`spec/providers/conformance.lua` says it in tests.
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local op = require "kiln.op"

local provider = {}

---@class kiln.Cloud
---@field name string
---@field driver table
---@field private run kiln.Run
local Cloud = {}

---Parts of `run.cloud`, each loaded when one of its functions is first used.
local parts = {
  machines = "fleet", existing = "fleet",
  base = "images", find_image = "images", snapshot = "images", copy_image = "images",
  destroy_images = "images", retain_images = "images",
  address = "addresses", release_address = "addresses",
  balancer = "balancers", release_balancer = "balancers",
  database = "databases", record = "network", firewall = "network",
}

setmetatable(Cloud, { __index = function(_, name)
  local part = parts[name]
  return part and signature.checked("run.cloud:" .. name, require("kiln.provider." .. part)[name])
end })

---Says what became of machines that went down with their host, and of their network.
---@param rows { name: string, problem: kiln.Error?, repaired: boolean? }[] from a driver's `revive`
---@return string[] lines
function provider.revived(rows)
  local lines = {}
  for index, row in ipairs(rows) do
    lines[index] = row.repaired and ("the machines' network was broken (%s): repaired")
      :format(row.name) or ("machine %s was off since its host went down: %s"):format(row.name,
      row.problem and "it does not start: " .. row.problem.message or "started")
  end
  return lines
end

---The first use of a part starts what went down with the host.
function Cloud.__index(self, name)
  local driver = parts[name] and rawget(self, "sleeping")
  if driver then
    self.sleeping = nil
    for _, line in ipairs(provider.revived(driver:revive())) do self.run:note(line) end
  end
  return Cloud[name]
end

---Opens the run's cloud, as the recipe's `clouds.<name>` sets it up. Raises `usage` for a name that
---kiln does not have, `auth` when it lets nobody in.
---@param run kiln.Run
---@return kiln.Cloud
function provider.open(run)
  local driver = provider.driver(run.cloud_name, run.clouds and run.clouds[run.cloud_name])
  return setmetatable({
    name = driver.name, driver = driver, run = run, sleeping = driver.revive and driver,
  }, Cloud)
end

---Loads the module of a cloud, or a part of it; nil when kiln has none of that name.
local function module_of(cloud, part)
  if not cloud:find("^%a[%w_%-]*$") then return nil end -- "local.base" is a module, and no cloud
  local name = ("providers.%s%s"):format(cloud, part or "")
  local found, module = pcall(require, name)
  if found then return module end
  -- The words are those of runtime/host/modules.c.
  if not tostring(module):find(("there is no module '%s' in kiln"):format(name), 1, true) then
    error(module, 0)
  end
end

---Makes a provider's driver by name. Raises `usage` for a name that kiln does not have.
---@param name string "local", "digitalocean"
---@param options? table the driver's own
---@return table driver
function provider.driver(name, options)
  local module = module_of(name)
  if not module then
    error_.raise { kind = "usage", message = ("there is no cloud '%s' in this kiln"):format(name) }
  end
  return module.new(options or {})
end

---Gives the simulator of a cloud. Raises `usage` for one that has none.
---@param name string "digitalocean"
---@return { new: function, faults: table, gaps: string[] } module
function provider.simulator(name)
  local module = module_of(name, ".sim")
  if module then return module end
  error_.raise { kind = "usage",
    message = ("there is no simulator of '%s'; there is one of digitalocean"):format(name) }
end

---Closes what the run had open to its machines.
---@param run kiln.Run
function provider.close(run)
  if run.sessions or run.forwards then require("kiln.machine").close_all(run) end
end

---Raises `unsupported` when the cloud cannot do what a recipe needs, before anything is made.
---@param capability string
function Cloud:need(capability)
  if not self:can(capability) then
    error_.raise { kind = "unsupported",
      message = ("cloud '%s' has no %s"):format(self.name, (capability:gsub("_", " "))) }
  end
end

---Tells whether the cloud can do something.
---@param capability string "load_balancers", "databases", "dns", "firewalls", …
---@return boolean
function Cloud:can(capability)
  return self.driver.capabilities[capability] or false
end

---Looks for everything that can be known to be wrong before anything is made.
---Raises `invalid` with one list of it all.
---@async
---@param spec { names: string[]?, machines: integer?, image: string?, size: string?,
---  user_data: string? }
function Cloud:preflight(spec)
  local bytes = spec.names and require("kiln.provider.fleet").measure(spec)
  if not self.driver.preflight then return end
  local args = {
    names = spec.names, machines = spec.machines, image = spec.image, size = spec.size,
    user_data = bytes,
  }
  op.call {
    name = "preflight", class = "read", quiet = true, args = args,
    perform = function() self.driver:preflight(args) end,
  }
end

---Sends any request to the cloud's API, for what kiln has no words for. One that reads or sets may
---be sent again by a resume; a POST that was cut off is not.
---Raises what the API refuses; `in_doubt` when a POST was cut off before its answer.
---@async
---@param method string
---@param path string "/v2/monitoring/alerts"
---@param body? table
---@return table|boolean answer
function Cloud:api(method, path, body)
  self:need "requests"
  local settled = method ~= "POST" and method ~= "PATCH"
  return op.call {
    name = ("api %s %s"):format(method, path),
    class = method == "GET" and "read" or settled and "idempotent" or "adopt",
    args = { method = method, path = path, body = body }, stands = method ~= "GET",
    perform = function() return self.driver:request(method, path, body) end,
    settle = function()
      if settled then return nil end
      error_.raise { kind = "in_doubt", message = ("%s %s was cut off, and kiln cannot know "
        .. "whether it took effect: look there, then start anew"):format(method, path) }
    end,
  }
end

signature.class("run.cloud", Cloud)

return provider
