---Actions: what is asked of a resource, in progress until its time has passed.
local json = require "kiln.json"
local catalogue = require "providers.digitalocean.sim.catalogue"
local reply = require "providers.digitalocean.sim.reply"

local actions = {}

---@class kiln.do.sim.ActionSpec
---@field type string
---@field resource_type string
---@field resource_id integer
---@field region? string slug
---@field seconds number until it ends
---@field job? kiln.do.sim.Job it waits for this too
---@field done fun(job: kiln.do.sim.Job?) what completing it changes
---@field failed? fun() what an action that ends `errored` changes

local function ends(world, action, spec, fault, job)
  action.completed_at = world:stamp()
  if fault == "errored" or (job and job.error) then
    action.status = "errored"
    if spec.failed then spec.failed() end
    return
  end
  action.status = "completed"
  spec.done(job)
end

---Starts an action. A fault on the request decides how it ends: `errored`, `endless`, `slow`.
---@param world kiln.do.sim.World
---@param spec kiln.do.sim.ActionSpec
---@return table action
function actions.start(world, spec)
  local fault = world.fault or {}
  local action = world.actions:add {
    id = world:number("action", 36804636), status = "in-progress", type = spec.type,
    started_at = world:stamp(), resource_id = spec.resource_id,
    resource_type = spec.resource_type, region_slug = spec.region,
  }
  if fault.kind == "endless" then return action end
  local seconds = fault.kind == "slow" and fault.seconds or spec.seconds
  world:after(seconds, function(job) ends(world, action, spec, fault.kind, job) end, spec.job)
  return action
end

---Gives what the client sees of an action.
---@param world kiln.do.sim.World
---@param action table
---@return table
function actions.show(world, action)
  return {
    id = action.id, status = action.status, type = action.type, started_at = action.started_at,
    completed_at = action.completed_at or json.null,
    resource_id = action.resource_id or json.null,
    resource_type = action.resource_type, region_slug = action.region_slug or json.null,
    region = action.region_slug and catalogue.by_slug(world.regions, action.region_slug),
  }
end

---Gives the link to an action that the answer to a creation carries.
---@param request table
---@param action table
---@param rel string "create"
---@return table link
function actions.link(request, action, rel)
  return { id = action.id, rel = rel,
    href = ("%s/v2/actions/%d"):format(request.base, action.id) }
end

---Gives the actions of a resource as a page, newest first.
---@param world kiln.do.sim.World
---@param request table
---@param accepts? fun(action: table): any (all)
---@return table answer
function actions.page(world, request, accepts)
  local rows = world.actions:list(accepts)
  table.sort(rows, function(a, b) return a.id > b.id end)
  return reply.page(request, "actions", rows, function(row) return actions.show(world, row) end)
end

---Answers with one action.
---@param world kiln.do.sim.World
---@param id string
---@param accepts? fun(action: table): any others are not found
---@return table answer
function actions.one(world, id, accepts)
  local action = world.actions:get(id)
  if not action or (accepts and not accepts(action)) then reply.not_found() end
  return reply.json(200, { action = actions.show(world, action) })
end

---Adds the routes of the account's actions.
---@param add fun(method: string, pattern: string, handler: function)
function actions.routes(add)
  add("GET", "/v2/actions", function(world, request) return actions.page(world, request) end)
  add("GET", "/v2/actions/{id}", function(world, request)
    return actions.one(world, request.id)
  end)
end

return actions
