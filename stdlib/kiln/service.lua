---A service's releases as a run sees them: which one serves, which one is kept, what comes next.
---Journaled: a resumed run sees what the first one saw.
local json = require "rt.json"
local timer = require "rt.timer"
local op = require "kiln.op"

local service = {}

local function decoded(row)
  if not row then return nil end
  local out = json.decode(row.data)
  out.id, out.state, out.kept_until = row.id, row.state, row.kept_until
  return out
end

---Reads the releases of a service.
---@async
---@param run kiln.Run
---@param name string
---@return { serving: table?, kept: table?, serial: integer } serial of the next release
function service.current(run, name)
  return op.call {
    name = "releases of " .. name, class = "read", args = { service = name }, quiet = true,
    perform = function()
      local store = run.store
      local serving = decoded(store:serving(name, run.env))
      local kept = decoded(store:kept(name, run.env))
      return { serving = serving, kept = kept, serial = store:release_serial(name, run.env) + 1 }
    end,
  }
end

---Records a release as serving; the one that served becomes kept. One transaction.
---@async
---@param run kiln.Run
---@param record { service: string, version: string, keep: number, [string]: any } and image,
---  colour, serial, machines, health, address
---@return { time: number, clock: string }? kept_until when the old release may be retired
function service.promote(run, record)
  return op.call {
    name = "record release " .. record.version, class = "idempotent", quiet = true,
    args = { service = record.service, version = record.version, serial = record.serial },
    perform = function()
      local until_ = timer.time() + record.keep
      run.store:release_promote {
        run = run.id, service = record.service, env = run.env, cloud = run.cloud_name,
        version = record.version, image = record.image, colour = record.colour, kept_until = until_,
        data = json.encode(record),
      }
      return { time = until_, clock = os.date("%H:%M", math.floor(until_)) }
    end,
  }
end

---Takes a promotion back: the release that served before serves again.
---@async
---@param run kiln.Run
---@param record { service: string, version: string, before: table? } `before` as `current` gave it
function service.demote(run, record)
  op.call {
    name = "take back release " .. record.version, class = "idempotent", quiet = true,
    args = { service = record.service, version = record.version },
    perform = function()
      run.store:release_demote {
        run = run.id, service = record.service, env = run.env,
        before = record.before and record.before.id,
      }
    end,
  }
end

---Records that a kept release serves again; the one that served is kept from now on.
---@async
---@param run kiln.Run
---@param serving table as `current` gave it
---@param kept table as `current` gave it
---@param keep number seconds
function service.swap(run, serving, kept, keep)
  op.call {
    name = "record the rollback", class = "idempotent", quiet = true,
    args = { serving = serving.id, kept = kept.id },
    perform = function() run.store:release_swap(serving.id, kept.id, timer.time() + keep) end,
  }
end

---Records that a release's machines are gone.
---@async
---@param run kiln.Run
---@param record { id: integer, version: string, [string]: any } as `current` gave it
function service.retired(run, record)
  op.call {
    name = "record the end of release " .. record.version, class = "idempotent", quiet = true,
    args = { id = record.id },
    perform = function() run.store:release_state(record.id, "retired") end,
  }
end

return service
