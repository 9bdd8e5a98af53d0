---Machines of a cloud: a fleet is one operation, all of its machines or none.
local json = require "rt.json"
local machine = require "kiln.machine"
local machine_keys = require "kiln.machine_keys"
local op = require "kiln.op"
local scope = require "kiln.scope"

local fleet = {}

---Gives what the driver needs for each machine. Where one request makes many (`fleets`), their
---user-data is one text: such a fleet has one host key, and no other fleet has it.
local function specs_of(self, spec, token)
  local specs = {}
  for index, name in ipairs(spec.names) do
    local own = token .. "-" .. index
    local keys = machine_keys.machine(self.run, name,
      self.driver.capabilities.fleets and token .. "-1" or own)
    specs[index] = {
      name = name, token = own, image = spec.image, size = spec.size, tags = spec.tags or {},
      user_data = machine_keys.user_data(keys, spec.user_data), user_public = keys.user_public,
      host_key = keys.host_public,
    }
  end
  return specs
end

local function intend(self, spec, specs)
  for _, one in ipairs(specs) do
    self.run.store:ledger_intent {
      run = self.run.id, key = scope.state().operation.key, provider = self.name, kind = "machine",
      name = one.name, token = one.token, service = self.run.service, colour = spec.colour,
    }
  end
end

local function note(self, one, row)
  row.host_key = one.host_key
  self.run.store:ledger_live(one.token, row.id, json.encode(row))
  return row
end

---Creates machines of which none is there; those that are, drivers take as they are.
local function make(self, specs)
  local driver = self.driver
  if driver.create_machines then
    local rows = driver:create_machines(specs)
    for index, one in ipairs(specs) do note(self, one, rows[index]) end
    return rows
  end
  return scope.all(specs, function(one) return note(self, one, driver:create_machine(one)) end)
end

---Finds machines by their tokens, with one list.
local function find(self, specs)
  local by_token, rows = {}, {}
  for _, row in ipairs(self.driver:machines()) do by_token[row.token or ""] = row end
  for _, one in ipairs(specs) do rows[one.token] = by_token[one.token] end
  return rows
end

local function create(self, spec, specs)
  intend(self, spec, specs)
  return make(self, specs)
end

---Removes what a creation left that failed or was interrupted: all or some, half made.
local function unmake(self, specs)
  local there = find(self, specs)
  for _, one in ipairs(specs) do
    if there[one.token] then self.driver:destroy_machine(there[one.token].id) end
    self.run.store:ledger_gone(one.token)
    machine_keys.forget(self.run.store.folder, one.token)
  end
end

---Finds what an interrupted creation made; nil when nothing is there, so that all is made anew.
local function settle(self, specs)
  local there = find(self, specs)
  if next(there) == nil then return nil end
  local rows, missing = {}, {}
  for index, one in ipairs(specs) do
    rows[index] = there[one.token] and note(self, one, there[one.token])
    if not rows[index] then missing[#missing + 1] = one end
  end
  local made = #missing > 0 and make(self, missing) or {}
  local at = 0
  for index in ipairs(specs) do
    if not rows[index] then
      at = at + 1
      rows[index] = made[at]
    end
  end
  return rows
end

---Creates machines, all of them or none. They are not ready yet: `machine:ready()` waits.
---@async
---@param self kiln.Cloud
---@param spec { names: string[], image: string, size: string?, user_data: string?, tags: table?,
---  colour: string? }
---@return kiln.Machine[]
function fleet.machines(self, spec)
  local rows = op.call {
    name = "create " .. table.concat(spec.names, ", "), class = "adopt", quiet = true,
    ledger = true, args = { names = spec.names, image = spec.image, size = spec.size },
    perform = function(token) return create(self, spec, specs_of(self, spec, token)) end,
    settle = function(token) return settle(self, specs_of(self, spec, token)) end,
    unmake = function(token) unmake(self, specs_of(self, spec, token)) end,
  }
  local machines = {}
  for index, row in ipairs(rows) do machines[index] = machine.new(self.run, row) end
  return machines
end

---Gives the object of a machine that was made before, from its row.
---@param self kiln.Cloud
---@param row table as `machine:record()` gave it
---@return kiln.Machine
function fleet.existing(self, row)
  return machine.new(self.run, row)
end

return fleet
