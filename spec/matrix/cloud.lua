---The world of a case: a simulated account with guests on its droplets, a project folder, and the
---processes that come and go: each has a driver of its own.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local sim = require "providers.digitalocean.sim"
local death = require "spec.matrix.death"
local guests = require "spec.matrix.guests"
local inject = require "spec.matrix.inject"

local cloud = {}

---@class spec.Cloud
---@field dir string the project
---@field lost string[] moments at which the service did not answer
---@field seen { method: string, path: string }[] every request so far
---@field later? boolean the run is continued: its replay waits where a real one can
local Cloud = {}
Cloud.__index = Cloud

local epoch = 1780000000

local own_files = { "app.lua", "app.conf", "choices.lua", "nested.lua" }

---Writes the project's files: the matrix's own recipes, or an example with programs that are one
---line each, the version that they serve.
local function write_project(dir, folder)
  local from, names = folder or "spec/matrix", folder and { "app.lua", "app.service" } or own_files
  if folder then
    assert(fs.mkdir(dir .. "/bin"))
    for _, version in ipairs { "v1", "v2", "v3" } do
      assert(fs.write(dir .. "/bin/app-" .. version, version))
    end
  end
  for _, name in ipairs(names) do
    assert(fs.write(dir .. "/" .. name, assert(fs.read(from .. "/" .. name))))
  end
end

---Makes an empty account and project.
---@param opts? { faults: table[]?, folder: string? } `folder`: the example whose project it is
---@return spec.Cloud
function cloud.new(opts)
  local self = setmetatable({ dir = assert(fs.temp_dir()), lost = {}, seen = {} }, Cloud)
  local started = timer.now()
  self.sim = sim.new {
    clock = function() return epoch + timer.now() - started end,
    faults = opts and opts.faults, observe = function(seen) self:look(seen) end,
  }
  self.running = function(address) return self:droplet_at(address) end
  self.power_off = function(droplet) self.sim:power_off(droplet.id) end
  self.guests = guests.new(self)
  write_project(self.dir, opts and opts.folder)
  return self
end

---Removes the project.
function Cloud:close()
  assert(fs.remove(self.dir, { recursive = true }))
end

---Gives the running droplet behind an address, its own, a reserved one or a balancer's.
function Cloud:droplet_at(address)
  self.sim:catch_up()
  local world = self.sim.world
  local reserved = world.reserved_ips:find(function(row) return row.id == address end)
  local balancer = world.load_balancers:find(function(row) return row.ip == address end)
  local front = reserved and reserved.droplet_id or balancer and balancer.droplet_ids[1]
  local droplet = front and world.droplets:get(front)
    or world.droplets:find(function(row) return row.address == address end)
  return droplet and droplet.status == "active" and droplet or nil
end

---Ends the actions that never end, as errored: what a word with the cloud's support does.
function Cloud:give_up()
  local world = self.sim.world
  for _, action in ipairs(world.actions:list()) do
    if action.status == "in-progress" then action.status = "errored" end
  end
  for _, rows in ipairs { world.droplets, world.reserved_ips } do
    for _, row in ipairs(rows:list()) do row.event = nil end
  end
end

---Whether what the front points to answers.
function Cloud:serves()
  local world = self.sim.world
  for _, row in ipairs(world.reserved_ips:list()) do
    local version = self.guests:serving(row.id)
    if version then return version end
  end
  for _, row in ipairs(world.load_balancers:list()) do
    local version = self.guests:serving(row.ip)
    if version then return version end
  end
end

---Called with every request: once in service, always in service.
function Cloud:look(seen)
  self.seen[#self.seen + 1] = seen
  if self.in_service and not self:serves() then
    self.lost[#self.lost + 1] = seen.method .. " " .. seen.path
  end
end

---Carries a request; dies before it is sent, or when its answer does not come back any more.
function Cloud:send(request)
  local path, query = request.url:match("^%a+://[^/]+([^?]*)%??(.*)$")
  local what = request.method .. " " .. path:gsub("%d%d%d+", "N"):gsub("kl%-[%x%-]+", "T")
  local changes = request.method ~= "GET"
  if changes then inject.pass() end
  if changes then death.pass("before " .. what) elseif death.dead then death.pass "" end
  local headers = {}
  for name, value in pairs(request.headers or {}) do
    headers[name] = crypto.is_secret(value) and crypto.reveal(value) or value
  end
  timer.sleep(0.05)
  if death.dead then death.pass "" end
  local answer, lost = self.sim:answer {
    method = request.method, path = path, query = query, headers = headers, body = request.body,
  }
  if changes then death.pass("in " .. what) end
  if not answer then
    error_.raise { kind = "unreachable", effect = "maybe",
      message = "the connection ended before an answer: " .. lost }
  end
  if answer.delay then timer.sleep(answer.delay) end
  return answer
end

---Gives a process's driver. That of a run that is continued starts what went down, which takes a
---while.
function Cloud:driver()
  local driver = require("providers.digitalocean").new {
    token = crypto.secret "spec-token", url = "http://api.test",
    send = function(request) return self:send(request) end,
  }
  driver.revive = self.later and function()
    timer.sleep(7)
    return {}
  end or nil
  return driver
end

---Describes what is there, without numbers that differ from run to run.
---@param store table
---@return table<string, string[]> droplets, images, addresses, releases, ledger
function Cloud:state(store)
  self.sim:catch_up()
  local world = self.sim.world
  local out = { droplets = {}, images = {}, addresses = {}, balancers = {}, databases = {},
    records = {}, projects = {}, releases = {}, ledger = {} }
  for _, row in ipairs(world.droplets:list(function(one) return not one.dying end)) do
    local files = self.guests:of(row).files
    table.insert(out.droplets, ("%s %s %s"):format(row.name, row.status,
      files["/opt/app/version"] or files["/opt/app/app"] or "-"))
  end
  for _, row in ipairs(world.images:list(function(image) return not image.public end)) do
    table.insert(out.images, (row.name:match("^%S+")))
  end
  for _, row in ipairs(world.reserved_ips:list()) do
    local droplet = row.droplet_id and world.droplets:get(row.droplet_id)
    table.insert(out.addresses, "app -> " .. (droplet and droplet.name or "none"))
  end
  for _, row in ipairs(world.load_balancers:list()) do
    local names = {}
    for index, id in ipairs(row.droplet_ids) do
      local droplet = world.droplets:get(id)
      names[index] = droplet and droplet.name or "none"
    end
    table.sort(names)
    table.insert(out.balancers, row.name .. " -> " .. table.concat(names, ", "))
  end
  for _, row in ipairs(world.databases:list()) do table.insert(out.databases, row.name) end
  for _, domain in ipairs(world.domains:list()) do
    for _, row in ipairs(domain.records:list()) do
      if row.type == "A" then table.insert(out.records, row.name .. "." .. domain.id) end
    end
  end
  for _, row in ipairs(world.projects:list(function(one) return not one.is_default end)) do
    table.insert(out.projects, row.name)
  end
  for _, row in ipairs(store:releases()) do
    table.insert(out.releases, row.version .. " " .. row.state)
  end
  for _, row in ipairs(store:ledger { state = "live" }) do
    table.insert(out.ledger, row.kind .. " " .. row.name)
  end
  for _, list in pairs(out) do table.sort(list) end
  return out
end

---Names what is in the cloud and not in the ledger, or the other way round.
---@return string[]
function cloud.orphans(state)
  local found, seen = {}, {}
  local function count(kind, name, by)
    local key = kind .. " " .. name
    seen[key] = (seen[key] or 0) + by
  end
  for _, text in ipairs(state.droplets) do count("machine", text:match("^%S+"), 1) end
  for _, name in ipairs(state.images) do count("image", name, 1) end
  for _ in ipairs(state.addresses) do count("address", "app", 1) end
  for _, text in ipairs(state.balancers) do count("balancer", text:match("^%S+"), 1) end
  for _, name in ipairs(state.databases) do count("database", name, 1) end
  for _, text in ipairs(state.ledger) do seen[text] = (seen[text] or 0) - 1 end
  for key, left in pairs(seen) do
    if left ~= 0 then
      found[#found + 1] = ("%s %s"):format(left > 0 and "orphan" or "ghost", key)
    end
  end
  table.sort(found)
  return found
end

---What commands ran more than once on one machine.
---@return string[]
function Cloud:doubled()
  local found = {}
  for _, guest in pairs(self.guests.by_id) do
    local seen = {}
    for _, command in ipairs(guest.commands) do
      if seen[command] and command:find "^echo" then found[#found + 1] = command end
      seen[command] = true
    end
  end
  return found
end

---Two states as text, for a message.
function cloud.differ(wanted, got)
  return ("wanted %s\n      got    %s"):format(json.encode(wanted), json.encode(got))
end

return cloud
