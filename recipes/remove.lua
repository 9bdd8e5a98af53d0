---Takes a service away: its machines, its address or load balancer, its releases; its images when
---told to. What another environment or project uses stays. A run that leaves anything else of the
---service is not done: it stops, names what is left, and a resume looks again.
local error_ = require "kiln.error"
local front_guard = require "kiln.provider.front_guard"
local environment = require "kiln.run.environment"
local op = require "kiln.op"
local options = require "kiln.options"
local remains = require "kiln.run.remains"
local service = require "kiln.service"

---@class kiln.RemoveSpec
---@field service? string its name in the default environment (the recipe's name)
---@field address? string (the one that the release which serves is behind; where none serves, the
---  one of the service's name)
---@field balancer? string (likewise)
---@field images? boolean those that were baked under the service's name too (false)

local known = {
  service = "string?", address = "string?", balancer = "string?", images = "boolean?",
}

local function can_have(run, front)
  return run.cloud:can(front.kind == "balancer" and "load_balancers" or "addresses")
end

---Returns the fronts to take away: those that the recipe names; else that of the release which
---serves; else, for a service that never came to serve, those of its name.
local function fronts_of(run, spec, name, serving)
  local list = {}
  local function add(kind, front_name)
    local front = { kind = kind, name = front_name }
    if can_have(run, front) then list[#list + 1] = front end
  end
  if spec.address then add("address", spec.address) end
  if spec.balancer then add("balancer", spec.balancer) end
  if spec.address or spec.balancer then return list end
  if serving then
    add(serving.address.kind or "address", serving.address.name)
    return list
  end
  return op.call {
    name = "fronts of " .. name, class = "read", quiet = true, args = { service = name },
    perform = function()
      for _, row in ipairs(remains.of_service(run.store, run.service, run.env)) do
        local front = row.kind == "address" or row.kind == "balancer"
        if front and row.name == name and row.state == "live" then add(row.kind, name) end
      end
      return list
    end,
  }
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

---Sorts what the ledger has of the service in this cloud: what should be gone, and what may stay.
local function sort_left(run, spec)
  local should_go, stays = {}, {}
  for _, row in ipairs(remains.of_service(run.store, run.service, run.env)) do
    local here = row.provider == run.cloud.name
    local image = row.kind == "image" and (row.state == "live" or not spec.images)
    local may_stay = image or row.kind == "database" or not here
    table.insert(may_stay and stays or should_go, row)
  end
  return should_go, stays
end

---Looks what is left of the service, as the ledger has it.
---Raises `remains` with what should be gone, and what removes it.
local function look_back(run, spec, name)
  return op.call {
    name = "what is left of " .. name, class = "read", quiet = true,
    perform = function()
      local should_go, stays = sort_left(run, spec)
      if #should_go > 0 then
        error_.raise { kind = "remains",
          message = ("%s is out of service, but not all of it is gone: %s"):format(name,
            table.concat(remains.ways_out(run.store, should_go), "; ")) }
      end
      if #stays == 0 then return name .. " is gone" end
      return ("%s is out of service · stays: %s"):format(name, remains.names(stays))
    end,
  }
end

---Removes everything that kiln made for a service in the run's environment. What is gone already is
---fine. There is no way back: an abort goes on to the end. Raises `invalid` when a front leads to
---machines that are not the service's, `remains` when not all of it is gone.
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
  local fronts = fronts_of(run, spec, name, now.serving)
  for _, front in ipairs(fronts) do front_guard.check(run, front, records) end
  run:commit "what is removed does not come back"
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
  return { summary = look_back(run, spec, name) }
end

return remove
