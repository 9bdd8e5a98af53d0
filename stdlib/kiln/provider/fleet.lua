---Machines of a cloud: a fleet is one operation, all of its machines or none.
local json = require "rt.json"
local error_ = require "kiln.error"
local machine = require "kiln.machine"
local machine_keys = require "kiln.machine_keys"
local op = require "kiln.op"
local scope = require "kiln.scope"

local fleet = {}

---Names what each machine of a fleet is found by, without reading or rendering anything. Where one
---request makes many (`fleets`), their user-data is one text: such a fleet has one host key, and no
---other fleet has it.
local function tokens_of(self, spec, token)
  local list = {}
  for index, name in ipairs(spec.names) do
    local own = token .. "-" .. index
    local key = self.driver.capabilities.fleets and token .. "-1" or own
    list[index] = { name = name, token = own, key_token = key }
  end
  return list
end

---Renders what the driver needs for each machine.
local function specs_of(self, spec, token)
  local specs, labels = tokens_of(self, spec, token), self.run:labels(spec.tags)
  for _, one in ipairs(specs) do
    local keys = machine_keys.machine(self.run, one.name, one.key_token)
    one.image, one.size, one.tags = spec.image, spec.size, labels
    one.user_data = machine_keys.user_data(keys, spec.user_data)
    one.user_public, one.host_key = keys.user_public, keys.host_public
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
  row.host_key = one.host_key or machine_keys.host_public(self.run.store.folder, one.key_token)
  self.run.store:ledger_live(one.token, row.id, json.encode(row))
  return row
end

---Creates machines; drivers take those that are there already as they are.
local function make(self, spec, specs)
  intend(self, spec, specs)
  local driver = self.driver
  if driver.create_machines then
    local rows = driver:create_machines(specs)
    for index, one in ipairs(specs) do note(self, one, rows[index]) end
    return rows
  end
  return scope.all(specs, function(one) return note(self, one, driver:create_machine(one)) end)
end

---Finds machines by their tokens, with one list.
local function find(self, tokens)
  local by_token, rows = {}, {}
  for _, row in ipairs(self.driver:machines()) do by_token[row.token or ""] = row end
  for index, one in ipairs(tokens) do rows[index] = by_token[one.token] or false end
  return rows
end

---Removes what a creation left that failed or was interrupted: all or some, half made.
local function unmake(self, tokens)
  local rows = find(self, tokens)
  for index, one in ipairs(tokens) do
    if rows[index] then self.driver:destroy_machine(rows[index].id) end
    self.run.store:ledger_gone(one.token)
    machine_keys.forget(self.run.store.folder, one.token)
  end
end

---Finds what an interrupted creation made; nil unless all is there, so that the rest is made too.
local function settle(self, tokens)
  local rows = find(self, tokens)
  for index, one in ipairs(tokens) do
    if not rows[index] then return nil end
    note(self, one, rows[index])
  end
  return rows
end

---Counts the bytes of the user-data that machines would get, with kiln's own part. Raises `invalid`
---for user-data that cloud-init would not run.
---@param spec { names: string[], user_data: string? }
---@return integer bytes
function fleet.measure(spec)
  return machine_keys.measure(spec.names, spec.user_data)
end

---Raises for user-data that cloud-init would not run or the cloud would not take, before anything
---is recorded.
local function check_user_data(self, spec)
  local bytes, most = fleet.measure(spec), (self.driver.limits or {}).user_data
  if not most or bytes <= most then return end
  error_.raise { kind = "limit", message = ("the user-data of %s has %d bytes with kiln's part, "
    .. "%s takes %d: put what is large into the image, or upload it when the machine is ready")
    :format(spec.names[1], bytes, self.name, most) }
end

---Creates machines, all of them or none. They are not ready yet: `machine:ready()` waits.
---Raises `invalid` and `limit` for their user-data before anything is made.
---@async
---@param self kiln.Cloud
---@param spec { names: string[], image: string, size: string?, user_data: string?, tags: table?,
---  colour: string? }
---@return kiln.Machine[]
function fleet.machines(self, spec)
  check_user_data(self, spec)
  local rows = op.call {
    name = "create " .. table.concat(spec.names, ", "), class = "adopt", quiet = true,
    ledger = true, args = { names = spec.names, image = spec.image, size = spec.size },
    prepare = function(token) return specs_of(self, spec, token) end,
    perform = function(_, _, specs) return make(self, spec, specs) end,
    settle = function(token) return settle(self, tokens_of(self, spec, token)) end,
    unmake = function(token) unmake(self, tokens_of(self, spec, token)) end,
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
