---Floating addresses: fronts that point to one machine at a time.
local json = require "rt.json"
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local op = require "kiln.op"
local scope = require "kiln.scope"

local addresses = {}

---@class kiln.Address
---@field kind "address"
---@field id string
---@field name string
---@field ip string
---@field private cloud kiln.Cloud
local Address = {}
Address.__index = Address

---Tells what is there of a name: the address; else, where addresses have no names of their own, the
---ones that were there before ours is made.
local function look_up(self, name)
  return op.call {
    name = "look up address " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function()
      local row = self.driver:address(name)
      if row then return { row = row } end
      return { known = self.driver.known_addresses and json.array(self.driver:known_addresses()) }
    end,
  }
end

---Writes down that the cloud has no address of a name any more: somebody else gave it back.
local function forget(self, name)
  for _, made in ipairs(self.run.store:ledger { kind = "address", state = "live" }) do
    if made.name == name and made.provider == self.name then
      self.run.store:ledger_gone(made.token)
    end
  end
end

---Makes an address under the operation's token; what a failed creation left is removed.
local function make(self, name, known)
  local store, run, driver = self.run.store, self.run, self.driver
  return op.call {
    name = "address " .. name, class = "adopt", args = { name = name, known = known },
    quiet = true, ledger = true,
    prepare = function() run:labels() end, -- makes the project's id where there is none
    perform = function(token, in_doubt)
      local tags = run:labels { kiln_service = run.name }
      forget(self, name)
      store:ledger_intent {
        run = run.id, key = scope.state().operation.key, provider = self.name,
        kind = "address", name = name, token = token, service = run.service,
      }
      local made = driver:create_address {
        name = name, token = token, known = known, in_doubt = in_doubt, tags = tags,
      }
      store:ledger_live(token, made.id, json.encode(made))
      return made
    end,
    unmake = function(token)
      driver:discard_address { name = name, token = token, known = known }
      store:ledger_gone(token)
    end,
  }
end

---Looks a floating address up by name; makes it when there is none. It outlives releases.
---@async
---@param self kiln.Cloud
---@param name? string (the service's in its environment: `run.name`)
---@return kiln.Address
function addresses.address(self, name)
  name = name or self.run.name
  self:need "addresses"
  local found = look_up(self, name)
  local row = found.row or make(self, name, found.known)
  return setmetatable({
    kind = "address", id = row.id, name = name, ip = row.ip, cloud = self,
  }, Address)
end

---Gives a floating address back.
---@async
---@param self kiln.Cloud
---@param name string
---@return boolean there false: there was none
function addresses.release_address(self, name)
  return op.call {
    name = "release address " .. name, class = "idempotent", args = { name = name }, quiet = true,
    perform = function()
      local row = self.driver:address(name)
      forget(self, name)
      if not row then return false end
      self.driver:destroy_address(row.id)
      return true
    end,
  }
end

---Tells the ids of the machines that the address points to: one or none.
---@async
---@return string[] ids
function Address:targets()
  return op.call {
    name = "target of address " .. self.name, class = "read", args = { id = self.id },
    quiet = true,
    perform = function()
      local row = self.cloud.driver:address(self.name)
      return json.array { row and row.target }
    end,
  }
end

---Tells the id of the machine that the address points to.
---@async
---@return string? id
function Address:target()
  return self:targets()[1]
end

---Points the address, or finds that it is there no more: that points nowhere, too.
local function point(cloud, address, id)
  local ok, err = xpcall(cloud.driver.assign_address, error_.from, cloud.driver, address.id, id)
  if ok then return end
  if not error_.is(err, "not_found") or cloud.driver:address(address.name) then error(err, 0) end
  forget(cloud, address.name)
  if id then error(err, 0) end
end

---Points the address to a machine, or to none. New connections go there; established ones stay.
---@async
---@param id? string|string[] the machine's id, or a list of it alone
function Address:assign(id)
  if type(id) == "table" then id = id[1] end
  op.call {
    name = "assign address " .. self.name, class = "idempotent", quiet = true,
    args = { address = self.id, machine = id or json.null },
    perform = function() point(self.cloud, self, id) end,
  }
end

---Counts established connections that came through the address and still go to a machine.
---@async
---@param id string the machine's id
---@return integer
function Address:connections(id)
  return self.cloud.driver:connections(self.id, id)
end

signature.class("address", Address)

return addresses
