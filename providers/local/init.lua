---The local cloud: real machines on this host, made of namespaces by rt.machine.
---
---A site is a folder with images, machines and a network of its own: `KILN_LOCAL_DIR`, else
---/var/lib/kiln for root and ~/.local/share/kiln for others.
local fs = require "rt.fs"
local json = require "rt.json"
local machine = require "rt.machine"
local proc = require "rt.proc"
local snapshot = require "rt.snapshot"
local error_ = require "kiln.error"
local network = require "providers.local.network"
local size = require "providers.local.size"

local local_ = {}

---Gives a part of the driver that is loaded when it is first used: many runs use none of them.
local function part(name)
  return setmetatable({}, { __index = function(_, key)
    return require("providers.local." .. name)[key]
  end })
end

local addresses, base, databases = part "addresses", part "base", part "databases"

---@class kiln.local.Driver
---@field name string
---@field capabilities table<string, boolean>
---@field private site { dir: string, archives: string }
local Driver = {}
Driver.__index = Driver
network.add_methods(Driver)

local capabilities = {
  images = true, addresses = true, connections = true, tags = true, user_data = true,
  load_balancers = false, databases = true, dns = false, volumes = false, firewalls = false,
  sizes = false,
}

local function absolute(path)
  return path:sub(1, 1) == "/" and path or error_.check(fs.cwd()) .. "/" .. path
end

local function site_folder()
  local named = proc.getenv "KILN_LOCAL_DIR"
  if named and named ~= "" then return absolute(named) end
  if proc.info().uid == 0 then return "/var/lib/kiln" end
  local data = proc.getenv "XDG_DATA_HOME"
  return (data and data ~= "" and data or (proc.getenv "HOME" or "") .. "/.local/share") .. "/kiln"
end

---Makes the driver.
---@param options { dir: string?, archives: string? } the site's folder; where archives of base root
---  file systems are kept (`KILN_LOCAL_BASE`, else base/ in the site)
---@return kiln.local.Driver
function local_.new(options)
  local dir = options.dir or site_folder()
  local kept = proc.getenv "KILN_LOCAL_BASE"
  machine.reach(dir) -- a resumed run knows addresses that this process has not asked for
  local archives = options.archives or (kept and kept ~= "" and absolute(kept)) or dir .. "/base"
  return setmetatable({
    name = "local", capabilities = capabilities, site = { dir = dir, archives = archives },
  }, Driver)
end

---What rt.machine keeps for us, as JSON: tags and whatever else came along.
local function unpacked(row)
  return row.data and row.data ~= "" and json.decode(row.data) or {}
end

local function machine_row(row)
  local kept = unpacked(row)
  return {
    id = row.name, name = row.name, address = row.address, image = row.image,
    state = row.state == "running" and "running" or "stopped", lost = row.state == "lost" or nil,
    tags = kept.tags or {}, token = row.token, created = math.tointeger(tonumber(row.created)),
  }
end

local function image_row(row)
  local kept = unpacked(row)
  return {
    id = row.name, name = kept.name or row.name, token = row.token, digest = row.digest,
    created = math.tointeger(tonumber(row.created)), bytes = math.tointeger(tonumber(row.bytes)),
    data = kept.data or {}, tags = kept.tags or {},
  }
end

local function rows_of(list, make)
  local rows = {}
  for index, row in ipairs(list) do rows[index] = make(row) end
  table.sort(rows, function(a, b)
    if (a.created or 0) ~= (b.created or 0) then return (a.created or 0) < (b.created or 0) end
    return a.id < b.id
  end)
  return rows
end

local function first(rows, matches)
  for _, row in ipairs(rows) do
    if matches(row) then return row end
  end
end

---Tells what this host lacks for local machines, and what to do about it.
---@async
---@return { name: string, ok: boolean, message: string, remedy: string? }[]
function Driver:check()
  local rows = error_.check(machine.check { dir = self.site.dir })
  local there = base.is_archived(self.site.archives, "debian-13") or
    fs.stat(("%s/images/%s"):format(self.site.dir, base.image_name "debian-13")) ~= nil
  rows[#rows + 1] = {
    name = "base", ok = true,
    message = there and "the base root file system is prepared"
      or "the base root file system is made by the first run (about a minute, 70 MB)",
  }
  return rows
end

---Raises `unsupported`, with every remedy, when the host cannot run machines.
local function require_host(self)
  local lacking = {}
  for _, row in ipairs(self:check()) do
    if not row.ok then
      lacking[#lacking + 1] = ("%s (%s): %s"):format(row.name, row.message, row.remedy or "")
    end
  end
  if #lacking > 0 then
    error_.raise { kind = "unsupported", message = "this host cannot run local machines yet: "
      .. table.concat(lacking, "; ") .. "; see `kiln doctor`" }
  end
end

local function base_row(row, name, id)
  row.name, row.detail = name, id
  return row
end

---Gives the base image; makes it where it is not there yet.
---Raises `not_found`, `unsupported`, `unreachable`, `exit`.
---@async
---@param name string "debian-13"
---@param progress? fun(text: string)
---@return table image
function Driver:base_image(name, progress)
  local there = self:find_base(name)
  if there then return there end
  require_host(self)
  local id = base.image_name(name)
  local data = json.encode { name = name, data = { base = id } }
  return base_row(image_row(base.image(self.site, name, data, progress)), name, id)
end

---Finds a base image that is ready.
---@async
---@param name string "debian-13"
---@return table? image
function Driver:find_base(name)
  local id = base.image_name(name)
  local there = first(self:images(), function(row) return row.id == id end)
  return there and base_row(there, name, id)
end

---The machines of a project's service reach each other, and no others.
local function group_of(spec)
  local tags = spec.tags or {}
  return ("%s/%s"):format(tags.kiln_project or "", tags.kiln_service or spec.name)
end

---Creates a machine; one with the same name and token is taken as it is.
---Raises `not_found` (no such image), `exists`, `invalid`, `limit`, `unsupported`.
---@async
---@param spec { name: string, token: string, image: string, user_data: string?, tags: table?,
---  size: string? } processors, memory, disk, where its name has them ("2gb", "s-1vcpu-512mb-10gb")
---@return table machine
function Driver:create_machine(spec)
  local bounds = size.bounds(spec.size)
  local made, err = machine.create {
    dir = self.site.dir, name = spec.name, token = spec.token, image = spec.image,
    user_data = spec.user_data, group = group_of(spec), memory = bounds.memory,
    vcpus = bounds.vcpus, disk = bounds.disk,
    data = json.encode { tags = spec.tags or {} },
  }
  if not made and err.kind == "exists" then
    local there = self:machine(spec.name)
    local tags, ours = there and there.tags or {}, spec.tags or {}
    if tags.kiln_project and tags.kiln_project == ours.kiln_project then
      err.message = ("%s, of this project, environment %s: `kiln gc` says of which run; it removes "
        .. "what no run needs"):format(err.message, tags.kiln_env)
    elseif tags.kiln_project then
      err.message = ("%s, of project %s, environment %s: services of one host need different "
        .. "names"):format(err.message, tags.kiln_project, tags.kiln_env)
    end
  end
  return machine_row(error_.check(made, err))
end

---Lists machines.
---@async
---@param filter? { tag: string? } "key" or "key=value"
---@return table[]
function Driver:machines(filter)
  local rows = rows_of(error_.check(machine.list { dir = self.site.dir }), machine_row)
  local tag = filter and filter.tag
  if not tag then return rows end
  local key, value = tag:match("^([^=]*)=(.*)$")
  local kept = {}
  for _, row in ipairs(rows) do
    local has = row.tags[key or tag]
    if has ~= nil and (value == nil or tostring(has) == value) then kept[#kept + 1] = row end
  end
  return kept
end

---Gives a machine by its id.
---@async
---@param id string
---@return table?
function Driver:machine(id)
  return first(self:machines(), function(row) return row.id == id end)
end

---Gives the machine that was created with a token.
---@async
---@param token string
---@return table?
function Driver:find_machine(token)
  return first(self:machines(), function(row) return row.token == token end)
end

---Switches a machine off in good order and waits until it is. Raises `not_found`.
---@async
---@param id string
function Driver:power_off(id)
  error_.check(machine.power_off { dir = self.site.dir, name = id, within = 30 })
end

---Destroys a machine; one that is gone already is fine.
---@async
---@param id string
function Driver:destroy_machine(id)
  error_.check(machine.destroy { dir = self.site.dir, name = id })
end

---Freezes a stopped machine into an image; the machine can only be destroyed afterwards.
---Raises `not_found`, `invalid` (it runs), `exists`.
---@async
---@param spec { machine: string, name: string, token: string?, tags: table?, data: table? }
---@return table image
function Driver:snapshot(spec)
  return image_row(error_.check(snapshot.freeze {
    dir = self.site.dir, name = spec.machine, image = spec.name, token = spec.token,
    data = json.encode { name = spec.name, tags = spec.tags or {}, data = spec.data or {} },
  }))
end

---Removes what an interrupted `snapshot` made, and waits for one that goes on without us; fine when
---there is nothing.
---@async
---@param spec { machine: string, name: string, token: string }
function Driver:discard_snapshot(spec)
  local off, err = machine.power_off { dir = self.site.dir, name = spec.machine } -- waits
  if not off and not error_.is(err, "not_found") then error_.check(nil, err) end
  error_.check(snapshot.remove { dir = self.site.dir, image = spec.name, token = spec.token })
end

---Lists images, bases too.
---@async
---@return table[]
function Driver:images()
  return rows_of(error_.check(snapshot.list { dir = self.site.dir }), image_row)
end

---Finds an image by name or token.
---@async
---@param key { name: string?, token: string? }
---@return table?
function Driver:find_image(key)
  return first(self:images(), function(row)
    return (key.token ~= nil and row.token == key.token)
      or (key.name ~= nil and (row.name == key.name or row.id == key.name))
  end)
end

---Deletes an image; one that is gone already is fine. Raises `exists` when something stands on it.
---@async
---@param id string
function Driver:destroy_image(id)
  error_.check(snapshot.remove { dir = self.site.dir, image = id })
end

---Lists floating addresses.
---@async
---@return table[]
function Driver:addresses()
  return addresses.list(self.site, self:machines())
end

---Lists the machines that a floating address leads to, of whichever project.
---@async
---@return string[] ids
function Driver:targets()
  local ids = {}
  for _, row in ipairs(self:addresses()) do ids[#ids + 1] = row.target end
  return ids
end

---Finds a floating address by name.
---@async
---@param name string
---@return table?
function Driver:address(name)
  return first(self:addresses(), function(row) return row.name == name end)
end

local function address_by_id(self, id)
  local row = first(self:addresses(), function(one) return one.id == id end)
  if not row then
    error_.raise { kind = "not_found", message = ("there is no floating address %s"):format(id) }
  end
  return row
end

---Makes a floating address; one of that name is taken as it is.
---@async
---@param spec { name: string, token: string?, tags: table? }
---@return table address
function Driver:create_address(spec)
  return address_by_id(self, addresses.create(self.site, spec.name, spec.token, spec.tags))
end

---Removes what a creation left that failed or was interrupted.
---@async
---@param spec { name: string, token: string }
---@return boolean there whether anything was there
function Driver:discard_address(spec)
  local row = first(self:addresses(), function(one) return one.token == spec.token end)
  if row then addresses.destroy(self.site, row.id) end
  return row ~= nil
end

---Points an address to a machine, or to none. Established connections stay where they are.
---Raises `not_found`.
---@async
---@param id string
---@param machine_id? string
function Driver:assign_address(id, machine_id)
  local row = address_by_id(self, id)
  local target = machine_id and self:machine(machine_id)
  if machine_id and not target then
    error_.raise { kind = "not_found", message = ("there is no machine %s to point %s to")
      :format(machine_id, row.ip) }
  end
  addresses.assign(self.site, id, target and target.address)
end

---Ends the site's network when nothing is left that needs it; it comes back with the next machine.
local function end_idle_network(self)
  if #self:machines() > 0 or #self:addresses() > 0 then return end
  local done, err = machine.network_down { dir = self.site.dir }
  if not done and not error_.is(err, "exists") then error_.check(nil, err) end
end

---Gives an address back; one that is gone already is fine. With the last one of a site without
---machines its network goes too, so nothing of kiln is left running.
---@async
---@param id string
function Driver:destroy_address(id)
  addresses.destroy(self.site, id)
  end_idle_network(self)
end

---Counts established connections that came through an address and go to a machine.
---@async
---@param id string
---@param machine_id string
---@return integer
function Driver:connections(id, machine_id)
  local row, target = address_by_id(self, id), self:machine(machine_id)
  if not target then return 0 end
  return error_.check(machine.connections {
    dir = self.site.dir, address = row.ip, target = target.address,
  })
end

for method, name in pairs {
  database = "find", create_database = "create", await_database = "await",
  database_secrets = "secrets", allow_database = "allow", destroy_database = "destroy",
} do
  Driver[method] = function(...) return databases[name](...) end
end

return local_
