---DigitalOcean: the driver contract of `kiln.provider` over its public API, version 2.
---https://docs.digitalocean.com/reference/api/
local error_ = require "kiln.error"
local json = require "kiln.json"
local account = require "providers.digitalocean.account"
local addresses = require "providers.digitalocean.addresses"
local api = require "providers.digitalocean.api"
local balancers = require "providers.digitalocean.balancers"
local credentials = require "providers.digitalocean.credentials"
local databases = require "providers.digitalocean.databases"
local droplets = require "providers.digitalocean.droplets"
local images = require "providers.digitalocean.images"
local naming = require "providers.digitalocean.naming"
local network = require "providers.digitalocean.network"
local preflight = require "providers.digitalocean.preflight"
local wait = require "providers.digitalocean.wait"

local digitalocean = {}

---@class kiln.digitalocean.Driver
---@field name string
---@field capabilities table<string, boolean>
---@field options kiln.digitalocean.Options
---@field api kiln.digitalocean.Api
---@field wait kiln.digitalocean.Wait
local Driver = {}
Driver.__index = Driver

---@class kiln.digitalocean.Options
---@field token? userdata|string (the user's, see credentials.lua)
---@field url? string (https://api.digitalocean.com)
---@field send? fun(request: table): table sends a request in another way, for specs
---@field region? string slug (DIGITALOCEAN_REGION, else "fra1")
---@field size? string slug, where a recipe names none (DIGITALOCEAN_SIZE, else "s-1vcpu-1gb")
---@field vpc? string id of the VPC (the region's default)
---@field project? string name or id (the default project)
---@field monitoring? boolean DigitalOcean's metrics agent (true)
---@field ssh_keys? string[] fingerprints or ids of more keys that may log in

local capabilities = {
  images = true, addresses = true, connections = false, tags = true, user_data = true,
  sizes = true, fleets = true, guest_power_off = true, load_balancers = true, databases = true,
  dns = true, volumes = true, firewalls = true, requests = true, image_copies = true,
}

---https://docs.digitalocean.com/reference/api/ (droplets_create): user_data
local limits = { user_data = 64 * 1024 }

local function from_environment(name, default)
  local value = os.getenv(name)
  return value and value ~= "" and value or default
end

local known_options = { token = true, url = true, send = true, region = true, size = true,
  vpc = true, project = true, monitoring = true, ssh_keys = true }

---Makes the driver. Raises `auth` when there is no token, `usage` for an option it does not have.
---@param options kiln.digitalocean.Options
---@return kiln.digitalocean.Driver
function digitalocean.new(options)
  for name in pairs(options) do
    if not known_options[name] then
      error_.raise { kind = "usage",
        message = ("clouds.digitalocean has no option '%s'"):format(tostring(name)) }
    end
  end
  local token, source = options.token, "the options"
  if not token then token, source = credentials.token() end
  local client = api.new {
    token = token, source = source, url = options.url or credentials.url(), send = options.send,
  }
  return setmetatable({
    name = "digitalocean", capabilities = capabilities, limits = limits,
    api = client, wait = wait.new(client),
    tags = account.tags(client), keys = account.keys(client),
    project = account.project(client, options.project),
    names = {}, token_tags = {}, -- of the droplets that were seen, by id
    leaving = {}, -- what is being destroyed: the API shows it for a while longer
    options = {
      region = options.region or from_environment("DIGITALOCEAN_REGION", "fra1"),
      size = options.size or from_environment("DIGITALOCEAN_SIZE", "s-1vcpu-1gb"),
      vpc = options.vpc, monitoring = options.monitoring ~= false,
      ssh_keys = options.ssh_keys or {},
    },
  }, Driver)
end

---Tells what keeps this account from making a machine, and what to do about it. Raises `auth`.
---@async
---@return { name: string, ok: boolean, message: string, remedy: string? }[]
function Driver:check()
  return preflight.check(self, { machines = 1 })
end

Driver.preflight = preflight.require

Driver.create_machine = droplets.create
Driver.create_machines = droplets.create_many
Driver.machines = droplets.list
Driver.machine = droplets.get
Driver.find_machine = droplets.find
Driver.await_machine = droplets.await
Driver.power_off = droplets.power_off
Driver.destroy_machine = droplets.destroy

Driver.find_base = images.find_base
Driver.base_image = images.base
Driver.images = images.list
Driver.find_image = images.find
Driver.snapshot = images.snapshot
Driver.discard_snapshot = images.discard
Driver.copy_image = images.copy
Driver.destroy_image = images.destroy

Driver.addresses = addresses.list
Driver.address = addresses.find
Driver.known_addresses = addresses.known
Driver.create_address = addresses.create
Driver.discard_address = addresses.discard
Driver.assign_address = addresses.assign
Driver.destroy_address = addresses.destroy

Driver.balancers = balancers.list
Driver.balancer = balancers.find
Driver.create_balancer = balancers.create
Driver.await_balancer = balancers.await
Driver.set_members = balancers.set_members
Driver.destroy_balancer = balancers.destroy

Driver.database = databases.find
Driver.create_database = databases.create
Driver.await_database = databases.await
Driver.database_secrets = databases.secrets
Driver.destroy_database = databases.destroy

---Lists the machines that an address or a load balancer leads to, whoever made that.
---@async
---@return string[] ids
function Driver:targets()
  local ids = addresses.targets(self)
  for _, row in ipairs(balancers.list(self)) do
    table.move(row.members, 1, #row.members, #ids + 1, ids)
  end
  return ids
end

---Lets machines with a recipe's tag into a database.
---@async
---@param id string
---@param key string the tag's key: "kiln_service"
---@param value string
function Driver:allow_database(id, key, value)
  databases.allow(self, id, naming.tags_of({ [key] = value })[1])
end

---Makes a firewall for the machines with a recipe's tag: these ports are open, to everybody or to
---where the rule says, and no others.
---@async
---@param spec { name: string, key: string, value: string, open: table<integer, string[]|true> }
---@return table firewall { id, name }
function Driver:set_firewall(spec)
  local ports, rules = {}, {}
  for port in pairs(spec.open) do ports[#ports + 1] = port end
  table.sort(ports)
  for index, port in ipairs(ports) do
    local from = spec.open[port]
    rules[index] = { protocol = "tcp", ports = tostring(port), sources = {
      addresses = json.array(from == true and { "0.0.0.0/0", "::/0" } or from),
    } }
  end
  return network.set_firewall(self, {
    name = spec.name, tags = naming.tags_of({ [spec.key] = spec.value }), inbound = rules,
  })
end

Driver.create_domain = network.create_domain
Driver.record = network.record
Driver.set_record = network.set_record
Driver.record_owner = network.record_owner
Driver.claim_record = network.claim_record
Driver.create_vpc = network.create_vpc
Driver.create_volume = network.create_volume
Driver.attach_volume = network.attach_volume
Driver.create_certificate = network.create_certificate
Driver.destroy_resource = network.destroy

---Sends any request, for what this driver has no words for.
---@async
---@param method string
---@param path string "/v2/…", or without the /v2
---@param body? table
---@return table|boolean answer
function Driver:request(method, path, body)
  if path:sub(1, 4) ~= "/v2/" then path = "/v2" .. path end
  return self.api:call(method, path, body, { any = true })
end

return digitalocean
