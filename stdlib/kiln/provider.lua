---`run.cloud`: a provider's driver behind journaled operations.
---
---A driver is what `providers/<name>` returns from `new(options)`. Its rows are plain tables:
---
---  Machine { id, name, address, state = "new"|"running"|"stopped", image, tags, token, created }
---  Image   { id, name, token, created, bytes, data }
---  Address { id, name, ip, target = machine id or nil }
---
---and its methods, each of which may wait and raises kiln.Error:
---
---  check() -> problems   create_machine{…}  find_machine(token)  machine(id)  machines{ tag = }
---  power_off(id)  destroy_machine(id)  find_base(name)  base_image(name, progress)  snapshot{…}
---  find_image{ name = | token = }  images()  destroy_image(id)
---  address(name)  create_address{…}  addresses()  assign_address(id, machine_id|nil)
---  destroy_address(id)  connections(address_id, machine_id)
---
---`spec/providers/conformance.lua` says it in tests.
local json = require "rt.json"
local error_ = require "kiln.error"
local machine = require "kiln.machine"
local machine_keys = require "kiln.machine_keys"
local op = require "kiln.op"
local scope = require "kiln.scope"

local provider = {}

---@class kiln.Cloud
---@field name string
---@field driver table
---@field private run kiln.Run
local Cloud = {}
Cloud.__index = Cloud

---Opens the run's cloud. Raises `usage` for a name that kiln does not have.
---@param run kiln.Run
---@return kiln.Cloud
function provider.open(run)
  local driver = provider.driver(run.cloud_name)
  return setmetatable({ name = driver.name, driver = driver, run = run }, Cloud)
end

---Makes a provider's driver by name. Raises `usage` for a name that kiln does not have.
---@param name string "local", …
---@param options? table as the provider's `new` has them ({})
---@return table driver
function provider.driver(name, options)
  local found, module = pcall(require, "providers." .. name)
  if not found then
    if not tostring(module):find("module 'providers." .. name .. "' not found", 1, true) then
      error(module, 0)
    end
    error_.raise { kind = "usage", message = ("there is no cloud '%s' in this kiln"):format(name) }
  end
  return module.new(options or {})
end

---Gives the simulator of a cloud. Raises `usage` for one that has none.
---@param name string "digitalocean"
---@return { new: function, faults: table, gaps: string[] } module
function provider.simulator(name)
  local found, module = pcall(require, "providers." .. name .. ".sim")
  if found then return module end
  if not tostring(module):find("module 'providers." .. name .. ".sim' not found", 1, true) then
    error(module, 0)
  end
  error_.raise { kind = "usage",
    message = ("there is no simulator of '%s'; there is one of digitalocean"):format(name) }
end

---Closes what the run had open to its machines.
---@param run kiln.Run
function provider.close(run)
  machine.close_all(run)
end

---Raises `unsupported` when the cloud cannot do what a recipe needs, before anything is made.
---@param capability string
function Cloud:need(capability)
  if not self.driver.capabilities[capability] then
    error_.raise { kind = "unsupported",
      message = ("cloud '%s' has no %s"):format(self.name, (capability:gsub("_", " "))) }
  end
end

---Makes sure that a base image is there; the local cloud prepares it once.
---@async
---@param name string
---@return table image
function Cloud:base(name)
  local there = op.call {
    name = "look up base " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function() return self.driver:find_base(name) end,
  }
  if there then return there end
  return self.run:step {
    name = "base " .. name,
    perform = function()
      local image = op.call {
        name = "base " .. name, class = "idempotent", args = { name = name },
        perform = function()
          return self.driver:base_image(name, function(text)
            self.run:emit { type = "line", stream = "out", text = text, name = "base " .. name }
          end)
        end,
      }
      return image, image.detail or image.id
    end,
  }
end

---Finds an image by name.
---@async
---@param name string
---@return table? image
function Cloud:find_image(name)
  return op.call {
    name = "look up image " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function() return self.driver:find_image { name = name } end,
  }
end

local function create_one(self, spec, name, token)
  local keys = machine_keys.machine(self.run, name, token)
  local row = self.driver:create_machine {
    name = name, token = token, image = spec.image, size = spec.size, tags = spec.tags or {},
    user_data = machine_keys.user_data(keys, spec.user_data),
  }
  row.host_key = keys.host_public
  return row
end

---A fleet is one operation: all of its machines, or none.
local function create_fleet(self, spec, token)
  local run, store = self.run, self.run.store
  local numbers = {}
  for index, name in ipairs(spec.names) do
    numbers[index] = index
    store:ledger_intent {
      run = run.id, key = scope.state().operation.key, provider = self.name, kind = "machine",
      name = name, token = token .. "-" .. index, service = run.service, colour = spec.colour,
    }
  end
  local ok, rows = xpcall(scope.all, error_.from, numbers, function(index)
    local row = create_one(self, spec, spec.names[index], token .. "-" .. index)
    store:ledger_live(token .. "-" .. index, row.id, json.encode(row))
    return row
  end)
  if ok then return rows end
  if error_.halts(rows) then error(rows, 0) end
  for index in ipairs(numbers) do -- the one that failed may be half there
    local row = self.driver:find_machine(token .. "-" .. index)
    if row then self.driver:destroy_machine(row.id) end
    store:ledger_gone(token .. "-" .. index)
  end
  error(rows, 0)
end

---Finds what an interrupted creation made; nil when nothing is there, so that all is made anew.
local function settle_fleet(self, spec, token)
  local rows, found = {}, false
  for index, name in ipairs(spec.names) do
    local row = self.driver:find_machine(token .. "-" .. index)
    if row then
      row.host_key = machine_keys.machine(self.run, name, token .. "-" .. index).host_public
      self.run.store:ledger_live(token .. "-" .. index, row.id, json.encode(row))
      found = true
    end
    rows[index] = row or false
  end
  if not found then return nil end
  for index, row in ipairs(rows) do
    if not row then
      rows[index] = create_one(self, spec, spec.names[index], token .. "-" .. index)
      self.run.store:ledger_live(token .. "-" .. index, rows[index].id, json.encode(rows[index]))
    end
  end
  return rows
end

---Creates machines, all of them or none. They are not ready yet: `machine:ready()` waits.
---@async
---@param spec { names: string[], image: string, size: string?, user_data: string?, tags: table?,
---  colour: string? }
---@return kiln.Machine[]
function Cloud:machines(spec)
  local rows = op.call {
    name = "create " .. table.concat(spec.names, ", "), class = "adopt", quiet = true,
    args = { names = spec.names, image = spec.image, size = spec.size },
    perform = function(token) return create_fleet(self, spec, token) end,
    settle = function(token) return settle_fleet(self, spec, token) end,
  }
  local machines = {}
  for index, row in ipairs(rows) do machines[index] = machine.new(self.run, row) end
  return machines
end

---Gives the object of a machine that was made before, from its row.
---@param row table as `machine.row` gave it
---@return kiln.Machine
function Cloud:existing(row)
  return machine.new(self.run, row)
end

---Freezes a stopped machine into an image.
---@async
---@param source kiln.Machine
---@param spec { name: string, data: table? } data is kept with the image
---@return table image
function Cloud:snapshot(source, spec)
  local store, run = self.run.store, self.run
  return op.call {
    name = "snapshot " .. spec.name, class = "adopt", quiet = true,
    args = { name = spec.name, machine = source.id },
    perform = function(token)
      store:ledger_intent {
        run = run.id, key = scope.state().operation.key, provider = self.name, kind = "image",
        name = spec.name, token = token, service = run.service,
      }
      local image = self.driver:snapshot {
        machine = source.id, name = spec.name, token = token, tags = {}, data = spec.data,
      }
      store:ledger_live(token, image.id, json.encode(image))
      return image
    end,
    settle = function(token)
      local image = self.driver:find_image { token = token }
      if image then store:ledger_live(token, image.id, json.encode(image)) end
      return image
    end,
  }
end

---@class kiln.Address
---@field id string
---@field name string
---@field ip string
---@field private cloud kiln.Cloud
local Address = {}
Address.__index = Address

---Looks a floating address up by name; makes it when there is none. It outlives releases.
---@async
---@param name string
---@return kiln.Address
function Cloud:address(name)
  self:need "addresses"
  local row = op.call {
    name = "address " .. name, class = "adopt", args = { name = name }, quiet = true,
    perform = function(token)
      local there = self.driver:address(name)
      if there then return there end
      self.run.store:ledger_intent {
        run = self.run.id, key = scope.state().operation.key, provider = self.name,
        kind = "address", name = name, token = token, service = self.run.service,
      }
      local made = self.driver:create_address { name = name, token = token }
      self.run.store:ledger_live(token, made.id, json.encode(made))
      return made
    end,
  }
  return setmetatable({ id = row.id, name = name, ip = row.ip, cloud = self }, Address)
end

---Gives a floating address back.
---@async
---@param name string
---@return boolean there false: there was none
function Cloud:release_address(name)
  return op.call {
    name = "release address " .. name, class = "idempotent", args = { name = name }, quiet = true,
    perform = function()
      local row = self.driver:address(name)
      for _, made in ipairs(self.run.store:ledger { kind = "address", state = "live" }) do
        if made.name == name then self.run.store:ledger_gone(made.token) end
      end
      if not row then return false end
      self.driver:destroy_address(row.id)
      return true
    end,
  }
end

---Deletes the images that kiln baked under a name ("app" for app-3f9c21d0).
---@async
---@param name string
---@return integer count
function Cloud:destroy_images(name)
  return op.call {
    name = "delete images of " .. name, class = "idempotent", args = { name = name }, quiet = true,
    perform = function()
      local count = 0
      for _, made in ipairs(self.run.store:ledger { kind = "image", state = "live" }) do
        if made.name:match("^(.*)%-%x+$") == name then
          self.driver:destroy_image(made.id)
          self.run.store:ledger_gone(made.token)
          count = count + 1
        end
      end
      return count
    end,
  }
end

---Tells the id of the machine that the address points to.
---@async
---@return string? id
function Address:target()
  return op.call {
    name = "target of address " .. self.name, class = "read", args = { id = self.id },
    quiet = true,
    perform = function()
      local row = self.cloud.driver:address(self.name)
      return row and row.target
    end,
  }
end

---Points the address to a machine, or to none. New connections go there; established ones stay.
---@async
---@param id? string the machine's id
function Address:assign(id)
  op.call {
    name = "assign address " .. self.name, class = "idempotent", quiet = true,
    args = { address = self.id, machine = id or json.null },
    perform = function() self.cloud.driver:assign_address(self.id, id) end,
  }
end

---Counts established connections that came through the address and still go to a machine.
---@async
---@param id string the machine's id
---@return integer
function Address:connections(id)
  return self.cloud.driver:connections(self.id, id)
end

return provider
