---Goes back to the release that was kept: its machines run, only the front moves.
local op = require "kiln.op"
local error_ = require "kiln.error"
local rollout = require "recipes.rollout"
local service = require "kiln.service"

local rollback = { name = "rollback" }

rollback.args = { service = { "service to roll back", required = true } }

---Puts the kept release back into service; the one that served becomes the kept one.
---@async
---@param run kiln.Run
---@param args { service: string }
---@return table result
function rollback.deploy(run, args)
  local now = service.current(run, args.service)
  if not now.kept then
    error_.raise { kind = "not_found", message = ("%s has no kept release to go back to")
      :format(args.service) }
  end
  local machines = {}
  for index, row in ipairs(now.kept.machines) do machines[index] = run.cloud:existing(row) end
  local kept = now.kept.address
  local front = kept.kind == "balancer" and run.cloud:balancer(kept.name)
    or run.cloud:address(kept.name)
  local spec = {
    service = args.service, version = now.kept.version, image = { name = now.kept.image },
    front = front, health = now.kept.health,
  }
  local plan = {
    serving = now.serving, target = now.kept, colour = now.kept.colour, serial = now.kept.serial,
  }
  run:transaction(function(undo)
    rollout.probe_all(run, machines, spec.health)
    rollout.move(run, plan, front, machines, undo)
    rollout.probe(run, front.ip, spec.health, spec.version, front.port)
  end, { undone = args.service .. " still serves " .. now.serving.version })
  op.call {
    name = "record the rollback", class = "idempotent", quiet = true,
    args = { serving = now.serving.id, kept = now.kept.id },
    perform = function()
      run.store:release_swap(now.serving.id, now.kept.id, now.kept.kept_until)
    end,
  }
  return {
    service = args.service, version = spec.version,
    summary = ("%s serves %s again on %s · %s is kept"):format(args.service, spec.version,
      front.ip, now.serving.version),
  }
end

return rollback
