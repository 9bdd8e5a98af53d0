---Replaces a service's machines with no request lost: new machines beside the old, the front moved
---when the new ones answer, the old ones kept until that is certain.
local options = require "kiln.options"
local rollout = require "recipes.rollout"

---@class kiln.BlueGreenSpec
---@field service? string its name in the default environment; another environment's is added to it
---  (the recipe's name)
---@field image table from `recipes.bake`
---@field version? string what the health answer's `version` must be
---@field front? kiln.Address|kiln.Balancer (the address of the service's name)
---@field health kiln.Health
---@field size? string
---@field count? integer machines (1; an address takes one, a load balancer any number)
---@field user_data? string of any kind that cloud-init knows
---@field cloud_init? "done"|"degraded"|"error" the worst end of cloud-init with which a machine is
---  ready ("done")
---@field boot_within? number seconds for the new machines to become ready (180)
---@field configure? fun(machine: kiln.Machine) called for each new machine before it is probed:
---  what must not be in user-data, over SSH
---@field drain? number seconds for connections to the old machines to end (30)
---@field drain_ports? integer[] ports whose connections are counted (all that the machine listens
---  on, but for ssh's)
---@field keep? number seconds that the old machines are kept for a rollback (900); 0 retires them

local known = {
  service = "string?", image = "table", version = "string?", front = "table?", health = "table",
  size = "string?", count = "integer?", user_data = "any?", cloud_init = "string?",
  boot_within = "seconds?", configure = "function?", drain = "seconds?", drain_ports = "table?",
  keep = "seconds?",
}

local function complete(run, spec)
  local whole = {}
  for key, value in pairs(spec) do whole[key] = value end
  whole.service = run:named(spec.service)
  whole.front = spec.front or run.cloud:address(whole.service)
  return whole
end

---Puts an image into service.
---@async
---@param run kiln.Run
---@param spec kiln.BlueGreenSpec
---@return table result { service, version, ip, summary }
local function blue_green(run, spec)
  options.check("blue_green", spec, known)
  rollout.check_health(spec.health)
  spec = complete(run, spec)
  local plan = rollout.plan(run, spec)
  run:transaction(function(undo)
    local machines = rollout.boot(run, plan, spec, undo)
    rollout.configure(run, machines, spec)
    rollout.probe_all(run, machines, spec.health)
    rollout.move(run, plan, spec.front, machines, undo)
    rollout.probe(run, spec.front.ip, spec.health, {
      version = spec.version, port = spec.front.port,
    })
    rollout.promote(run, plan, spec, machines, undo)
    rollout.drain(run, plan, spec)
  end, { undone = rollout.before(plan, spec) })
  run:commit() -- what goes now does not come back
  rollout.retire(run, plan, spec)
  return rollout.result(run, plan, spec)
end

return blue_green
