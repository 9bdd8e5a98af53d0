---Takes a service away: its machines, its address or load balancer, its releases; its images when
---told to. What another environment or project uses stays.
local front_guard = require "kiln.provider.front_guard"
local environment = require "kiln.run.environment"
local op = require "kiln.op"
local options = require "kiln.options"
local remains = require "kiln.run.remains"
local service = require "kiln.service"

---@class kiln.RemoveSpec
---@field service? string its name in the default environment (the recipe's name)
---@field address? string (the one that the release which serves is behind)
---@field balancer? string
---@field images? boolean those that were baked under the service's name too (false)

local known = {
  service = "string?", address = "string?", balancer = "string?", images = "boolean?",
}

---The fronts to take away: those that the recipe names, else that of the ledger.
local function fronts_of(spec, serving)
  local list = {}
  if spec.address then list[1] = { kind = "address", name = spec.address } end
  if spec.balancer then list[#list + 1] = { kind = "balancer", name = spec.balancer } end
  if #list == 0 and serving then
    list[1] = { kind = serving.address.kind or "address", name = serving.address.name }
  end
  return list
end

local function can_have(run, front)
  return run.cloud:can(front.kind == "balancer" and "load_balancers" or "addresses")
end

local function release(run, front)
  run:step {
    name = front.kind .. " " .. front.name,
    perform = function()
      if front.kind == "balancer" then
        return nil, run.cloud:release_balancer(front.name) and "deleted" or "was not there"
      end
      return nil, run.cloud:release_address(front.name) and "released" or "was not there"
    end,
  }
end

local function remove_images(run, name)
  run:step {
    name = "images of " .. name,
    perform = function()
      local done = run.cloud:destroy_images(name)
      return nil, ("%d deleted%s"):format(done.count,
        done.used > 0 and (", %d are in use elsewhere"):format(done.used) or "")
    end,
  }
end

---Says what became of the service, as the ledger has it.
local function summary(run, name)
  return op.call {
    name = "what is left of " .. name, class = "read", quiet = true,
    perform = function()
      local left = remains.of_service(run.store, run.service, run.env)
      if #left == 0 then return name .. " is gone" end
      return ("%s is out of service · still there: %s"):format(name, remains.names(left))
    end,
  }
end

---Removes everything that kiln made for a service in the run's environment. What is gone already is
---fine. Raises `invalid` when a front leads to machines that are not the service's.
---@async
---@param run kiln.Run
---@param spec? kiln.RemoveSpec
---@return table result
local function remove(run, spec)
  spec = spec or {}
  options.check("remove", spec, known)
  local name = run:named(spec.service)
  local now = service.current(run, name)
  local records = {}
  for _, record in ipairs { now.serving or false, now.kept or false } do
    if record then records[#records + 1] = record end
  end
  local fronts = {}
  for _, front in ipairs(fronts_of(spec, now.serving)) do
    if can_have(run, front) then fronts[#fronts + 1] = front end
  end
  for _, front in ipairs(fronts) do front_guard.check(run, front, records) end
  for _, record in ipairs(records) do
    run:step {
      name = "retire " .. record.version,
      perform = function()
        for _, row in ipairs(record.machines) do run.cloud:existing(row):destroy() end
        service.retired(run, record)
        return nil, record.machines[1].name .. " destroyed"
      end,
    }
  end
  for _, front in ipairs(fronts) do release(run, front) end
  if spec.images then remove_images(run, environment.base(name, run.env)) end
  return { summary = summary(run, name) }
end

return remove
