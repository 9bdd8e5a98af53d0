---Goes back to the release that was kept: its machines run, only the front moves.
local op = require "kiln.op"
local error_ = require "kiln.error"
local rollout = require "recipes.rollout"
local service = require "kiln.service"

local rollback = { name = "rollback" }

rollback.args = { service = { "service to roll back", required = true } }

---Raises what keeps a release from serving again, before anything is moved.
local function require_alive(run, record)
  if not record.health then
    error_.raise { kind = "unsupported", message = ("release %s was adopted, and its health check "
      .. "is not known: deploy that version again"):format(record.version) }
  end
  for _, row in ipairs(record.machines) do
    op.call {
      name = "look at " .. row.name, class = "read", quiet = true, args = { id = row.id },
      perform = function()
        local now = run.cloud.driver:machine(row.id)
        if now and now.state == "running" then return true end
        error_.raise { kind = "not_found", message = ("%s of the kept release %s is %s: it cannot "
          .. "serve again, and nothing was changed; deploy that version again"):format(row.name,
          record.version, now and "switched off" or "gone") }
      end,
    }
  end
end

---Puts the kept release back into service; the one that served becomes the kept one.
---@async
---@param run kiln.Run
---@param args { service: string }
---@return table result
function rollback.deploy(run, args)
  local now = service.current(run, args.service)
  if not now.kept or not now.serving then
    error_.raise { kind = "not_found", message = ("%s has no kept release to go back to")
      :format(args.service) }
  end
  require_alive(run, now.kept)
  local machines = {}
  for index, row in ipairs(now.kept.machines) do machines[index] = run.cloud:existing(row) end
  local kept = now.kept.address
  local front = kept.kind == "balancer" and run.cloud:balancer(kept.name)
    or run.cloud:address(kept.name)
  -- A release that was deployed without a version has its image's name, which no answer has.
  local named = now.kept.version ~= now.kept.image
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
    rollout.probe(run, front.ip, spec.health,
      { version = named and spec.version or nil, port = front.port })
  end, { undone = args.service .. " still serves " .. now.serving.version })
  service.swap(run, now.serving, now.kept, now.serving.keep or rollout.default_keep)
  return {
    service = args.service, version = spec.version,
    summary = ("%s serves %s again on %s · %s is kept"):format(args.service, spec.version,
      front.ip, now.serving.version),
  }
end

return rollback
