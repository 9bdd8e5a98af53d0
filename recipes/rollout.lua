---The stages that rollouts share: boot beside the old, probe, move the front, drain, keep.
local front_guard = require "kiln.provider.front_guard"
local http_probe = require "kiln.probe"
local op = require "kiln.op"
local options = require "kiln.options"
local scope = require "kiln.scope"
local service = require "kiln.service"
local sh = require "kiln.sh"

local rollout = {
  default_keep = 900, -- seconds that a release is kept for a rollback
}

---@class kiln.Health
---@field path string
---@field port integer
---@field within? number seconds until it must answer (90)
---@field successes? integer good answers in a row (3)
---@field stable? number seconds that a new machine's answers must stay good before the front moves
---  (0); not counted in `within`

---@class kiln.RolloutPlan
---@field serving? table release record
---@field kept? table release record
---@field target? table release record whose machines the front is moved to, for a rollback
---@field colour "blue"|"green"
---@field serial integer

local health_options = {
  path = "string", port = "integer", within = "seconds?", successes = "integer?",
  stable = "seconds?",
}

---Checks how a release is asked for its health. Raises `usage`.
---@param health kiln.Health
function rollout.check_health(health)
  options.check("health", health, health_options)
end

local function names(spec, plan)
  local stem = ("%s-%s-%d"):format(spec.service, plan.colour, plan.serial)
  if (spec.count or 1) == 1 then return { stem } end
  local list = {}
  for index = 1, spec.count do list[index] = stem .. "-" .. index end
  return list
end

---Reads what serves now and chooses the other colour. Fails when the front leads to what is not the
---service's own, or when the cloud would refuse the new machines.
---@async
---@param run kiln.Run
---@param spec table
---@return kiln.RolloutPlan
function rollout.plan(run, spec)
  local now = service.current(run, spec.service)
  local colour = now.serving and now.serving.colour == "blue" and "green" or "blue"
  local plan = { serving = now.serving, kept = now.kept, colour = colour, serial = now.serial }
  front_guard.check(run, spec.front, { plan.serving })
  local wanted = names(spec, plan)
  run.cloud:preflight {
    names = wanted, machines = #wanted, image = spec.image.id, size = spec.size,
    user_data = spec.user_data,
  }
  return plan
end

---Says what serves when a rollout is undone.
---@param plan kiln.RolloutPlan
---@param spec table
---@return string
function rollout.before(plan, spec)
  local old = plan.serving
  if not old then return ("%s serves nothing, as before"):format(spec.service) end
  return ("%s still serves %s on %s"):format(spec.service, old.version, old.machines[1].name)
end

---What a release can be found again by when the ledger is lost.
local function labels(run, plan, spec)
  return {
    kiln_owner = run:owner_label(spec.service), kiln_service = spec.service,
    kiln_colour = plan.colour, kiln_version = spec.version or spec.image.name,
    kiln_health = ("%d %s"):format(spec.health.port, spec.health.path),
  }
end

---Creates the new machines and waits until they are ready.
---@async
---@param run kiln.Run
---@param plan kiln.RolloutPlan
---@param spec table
---@param undo fun(name: string, action: fun())
---@return kiln.Machine[]
function rollout.boot(run, plan, spec, undo)
  local wanted = names(spec, plan)
  return run:step {
    name = (#wanted == 1 and "machine " or "machines ") .. table.concat(wanted, ", "),
    perform = function()
      local machines = run.cloud:machines {
        names = wanted, image = spec.image.id, size = spec.size, user_data = spec.user_data,
        colour = plan.colour,
        tags = labels(run, plan, spec),
      }
      local addresses = {}
      for _, one in ipairs(machines) do
        undo("machine " .. one.name, function()
          one:destroy()
          return nil, "destroyed"
        end)
      end
      scope.all(machines, function(one)
        one:ready { within = spec.boot_within, cloud_init = spec.cloud_init }
      end)
      for index, one in ipairs(machines) do addresses[index] = one.address end
      return machines, table.concat(addresses, ", ") .. "  ready (ssh, cloud-init)"
    end,
  }
end

---Probes a health address until it answers well several times in a row.
---@async
---@param run kiln.Run
---@param ip string
---@param health kiln.Health
---@param opts { version: string?, port: integer?, stable: number? } what the answer's `version`
---  must be; where another port leads to the service (health.port); seconds that it must stay good
function rollout.probe(run, ip, health, opts)
  local port, version, stable = opts.port or health.port, opts.version, opts.stable or 0
  local where = ("%s:%d%s"):format(ip, port, health.path)
  run:step {
    name = "probe http " .. where,
    perform = function()
      local seen = op.call {
        name = "probe " .. where, class = "read", quiet = true, args = { version = version },
        perform = function()
          return http_probe.http {
            host = ip, port = port, path = health.path, version = version,
            within = health.within or 90, successes = health.successes or 3, stable = stable,
          }
        end,
      }
      return seen, ("%d ×%d%s%s"):format(seen.last.status, health.successes or 3,
        stable > 0 and (", good for %g s"):format(stable) or "",
        version and ", version " .. version or "")
    end,
  }
end

---Probes every machine of a release, at the same time.
---@async
---@param run kiln.Run
---@param machines kiln.Machine[]
---@param health kiln.Health
function rollout.probe_all(run, machines, health)
  scope.all(machines, function(one)
    rollout.probe(run, one.address, health, { stable = health.stable })
  end)
end

---Gives every new machine what must not be in its user-data, before it is asked for its health.
---@async
---@param run kiln.Run
---@param machines kiln.Machine[]
---@param spec table
function rollout.configure(run, machines, spec)
  if not spec.configure then return end
  run:step {
    name = "configure " .. spec.service,
    perform = function()
      scope.all(machines, function(one) spec.configure(one) end)
      return nil, ("%d machine%s"):format(#machines, #machines == 1 and "" or "s")
    end,
  }
end

local function ids_of(machines)
  local ids = {}
  for index, one in ipairs(machines) do ids[index] = one.id end
  return ids
end

local function named(machines)
  if #machines == 1 then return machines[1].name end
  return ("%s … %s"):format(machines[1].name, machines[#machines].name)
end

---The releases that the front may lead to before it is moved.
local function expected(plan)
  local records = { plan.serving }
  records[#records + 1] = plan.target
  return records
end

---Points the front to the new machines; undoing points it back.
---@async
---@param run kiln.Run
---@param plan kiln.RolloutPlan
---@param front kiln.Address|kiln.Balancer
---@param machines kiln.Machine[]
---@param undo fun(name: string, action: fun(), opts: table?)
function rollout.move(run, plan, front, machines, undo)
  run:step {
    name = ("%s %s %s"):format(front.kind, front.name, front.ip),
    perform = function()
      local before = front_guard.check(run, front, expected(plan))
      undo(front.kind .. " " .. front.name, function()
        front:assign(before)
        return nil, plan.serving and "back to " .. named(plan.serving.machines) or "unassigned"
      end, { always = true })
      front:assign(ids_of(machines))
      local from = plan.serving and named(plan.serving.machines) or "none"
      return nil, ("%s → %s"):format(from, named(machines))
    end,
  }
end

---Records the new release as serving and the old one as kept; undoing takes that back.
---@async
---@param run kiln.Run
---@param plan kiln.RolloutPlan
---@param spec table
---@param machines kiln.Machine[]
---@param undo fun(name: string, action: fun(), opts: table?)
function rollout.promote(run, plan, spec, machines, undo)
  local records = {}
  for index, one in ipairs(machines) do records[index] = one:record() end
  local version = spec.version or spec.image.name
  undo("release " .. version, function()
    service.demote(run, { service = spec.service, version = version, before = plan.serving })
    return nil, "not serving"
  end, { always = true })
  plan.kept_until = service.promote(run, {
    service = spec.service, version = version, image = spec.image.name,
    colour = plan.colour, serial = plan.serial, machines = records, health = spec.health,
    address = {
      id = spec.front.id, name = spec.front.name, ip = spec.front.ip, kind = spec.front.kind,
    },
    keep = spec.keep or rollout.default_keep,
  })
end

local function destroy_all(run, record)
  run:step {
    name = "retire " .. record.machines[1].name,
    perform = function()
      for _, row in ipairs(record.machines) do run.cloud:existing(row):destroy() end
      service.retired(run, record)
      return nil, "destroyed"
    end,
  }
end

---Lets the old machines' connections end.
---@async
---@param run kiln.Run
---@param plan kiln.RolloutPlan
---@param spec table
function rollout.drain(run, plan, spec)
  for _, row in ipairs(plan.serving and plan.serving.machines or {}) do
    run:step {
      name = "drain " .. row.name,
      perform = function()
        local left, why = run.cloud:existing(row):drain(spec.front, {
          within = spec.drain, ports = spec.drain_ports,
        })
        if left then return left, ("%d connections left"):format(left) end
        return nil, ("kiln cannot %s to count: waited %g s"):format(why, spec.drain or 30)
      end,
    }
  end
end

---Retires what was kept before, and the old machines if they are not to be kept.
---@async
---@param run kiln.Run
---@param plan kiln.RolloutPlan
---@param spec table
function rollout.retire(run, plan, spec)
  if plan.serving and spec.keep == 0 then destroy_all(run, plan.serving) end
  if plan.kept then destroy_all(run, plan.kept) end
end

---Says what happened, for the last line and for callers.
---@param run kiln.Run
---@param plan kiln.RolloutPlan
---@param spec table
---@return table result
function rollout.result(run, plan, spec)
  local version = spec.version or spec.image.name
  local parts = { ("%s serves %s on %s"):format(spec.service, version, spec.front.ip) }
  if plan.serving and plan.kept_until then
    parts[2] = ("%s kept until %s, then the next deploy or `kiln gc` removes it"):format(
      plan.serving.colour, plan.kept_until.clock)
    local where = run.dir == "." and "" or "-C " .. sh.quote(run.dir) .. " "
    parts[3] = ("undo: kiln %srollback %s"):format(where, spec.service)
  end
  return {
    service = spec.service, version = version, ip = spec.front.ip, run = run.id,
    summary = table.concat(parts, " · "),
  }
end

return rollout
