---Load balancers: fronts that point to any number of machines.
local json = require "rt.json"
local signature = require "kiln.engine.signature"
local op = require "kiln.op"
local scope = require "kiln.scope"

local balancers = {}

---@class kiln.Balancer
---@field kind "balancer"
---@field id string
---@field name string
---@field ip string
---@field port? integer where it listens
---@field private cloud kiln.Cloud
local Balancer = {}
Balancer.__index = Balancer

---Makes a load balancer. One is found by its name alone, so one of that name is the service's: what
---a failed or interrupted creation made stays for later runs.
local function make(self, name, spec)
  local store, run, driver = self.run.store, self.run, self.driver
  local function note(token, row)
    store:ledger_live(token, row.id, json.encode(row))
    return row
  end
  return op.call {
    name = "balancer " .. name, class = "adopt", args = { name = name }, quiet = true,
    ledger = true,
    perform = function(token)
      store:ledger_intent {
        run = run.id, key = scope.state().operation.key, provider = self.name,
        kind = "balancer", name = name, token = token, service = run.service,
      }
      return note(token, driver:create_balancer {
        name = name, token = token, port = spec.port, target_port = spec.target_port,
        health = spec.health, count = spec.count,
      })
    end,
    unmake = function(token)
      local row = driver:balancer(name)
      if row then note(token, row) else store:ledger_gone(token) end
    end,
  }
end

---Looks a load balancer up by name; makes it when there is none, and waits for its address. It
---outlives releases. Raises `unsupported`, `failed`, `timeout`.
---@async
---@param self kiln.Cloud
---@param name? string (the service's in its environment: `run.name`)
---@param spec? { port: integer?, target_port: integer?, health: kiln.Health?, count: integer? }
---  where it listens (80), where the machines do (health.port), what it asks them, how many they
---  will be (1)
---@return kiln.Balancer
function balancers.balancer(self, name, spec)
  name = name or self.run.name
  self:need "load_balancers"
  local there = op.call {
    name = "look up balancer " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function() return self.driver:balancer(name) end,
  }
  local row = there or make(self, name, spec or {})
  if row.ip == "" then
    row = op.call {
      name = "balancer " .. name .. " gets its address", class = "read", quiet = true,
      args = { id = row.id },
      perform = function() return self.driver:await_balancer(row.id) end,
    }
  end
  return setmetatable({
    kind = "balancer", id = row.id, name = name, ip = row.ip, port = row.port, cloud = self,
  }, Balancer)
end

---Takes a load balancer away.
---@async
---@param self kiln.Cloud
---@param name string
---@return boolean there false: there was none
function balancers.release_balancer(self, name)
  self:need "load_balancers"
  return op.call {
    name = "release balancer " .. name, class = "idempotent", args = { name = name }, quiet = true,
    perform = function()
      local row = self.driver:balancer(name)
      if row then self.driver:destroy_balancer(row.id) end
      for _, made in ipairs(self.run.store:ledger { kind = "balancer", state = "live" }) do
        if made.name == name and made.provider == self.name then
          self.run.store:ledger_gone(made.token)
        end
      end
      return row ~= nil
    end,
  }
end

---Tells the ids of the machines behind it.
---@async
---@return string[] ids
function Balancer:targets()
  return op.call {
    name = "members of balancer " .. self.name, class = "read", args = { id = self.id },
    quiet = true,
    perform = function()
      local row = self.cloud.driver:balancer(self.name)
      return json.array(row and row.members or {})
    end,
  }
end

---Makes these machines the members: they join and are let in before the others leave.
---@async
---@param ids string[]
function Balancer:assign(ids)
  op.call {
    name = "members of balancer " .. self.name, class = "idempotent", quiet = true,
    args = { id = self.id, machines = json.array(ids) },
    perform = function() self.cloud.driver:set_members(self.id, ids) end,
  }
end

signature.class("balancer", Balancer)

return balancers
