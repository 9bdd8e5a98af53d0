---Before a front moves: it leads to what the ledger says serves, or to nothing. Whatever else it
---leads to serves somebody: another environment, another project, or this service from another
---checkout, whose ledger is not here.
local json = require "rt.json"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local op = require "kiln.op"
local owner = require "kiln.provider.owner"

local front_guard = {}

---Says what to do, by whose it is.
local function way_out(run, front, found)
  local own = ("run.cloud:%s(%s)"):format(front.kind, front.kind == "balancer" and "nil, {…}" or "")
  if not found.kiln then
    return ("point it elsewhere by hand if that is meant, or take another %s, as %s does")
      :format(front.kind, own)
  end
  if found.project and found.project ~= run.store:project() then
    return ("give this project's service or its %s another name; it must not take another "
      .. "project's"):format(front.kind)
  end
  if found.env and found.env ~= run.env then
    local flag = found.env == environment.default and "without -e" or "with -e " .. found.env
    return ("each environment needs its own %s: leave the name out, `%s`, and it is called %s. A "
      .. "release for environment %s is run %s"):format(front.kind, own, run.name, found.env, flag)
  end
  if found.known then
    return ("`kiln status` shows what the ledger says; `kiln rollback %s` makes a kept release the "
      .. "serving one"):format(run.name)
  end
  return "it was put into service from another checkout, whose ledger is not here: copy its folder "
    .. ".kiln to this one, or take its machines into this ledger with `kiln gc --adopt`"
end

local function refuse(run, front, what, found)
  error_.raise {
    kind = "invalid", front = front.name,
    message = ("%s %s %s, which %s; nothing was changed: %s"):format(front.kind, front.name, what,
      owner.text(run, found), way_out(run, front, found)),
  }
end

---Looks at a front as it is now.
local function look(run, front)
  local driver = run.cloud.driver
  if front.kind == "balancer" then
    local row = driver:balancer(front.name)
    return row, row and row.members or {}
  end
  local row = driver:address(front.name)
  return row, { row and row.target }
end

---Returns what a front leads to, and stops the run when that is not the service's own.
---Raises `invalid`, with the owner and what to do.
---@async
---@param run kiln.Run
---@param front { kind: "address"|"balancer", name: string }
---@param records table[] the releases whose machines it may lead to
---@return string[] ids of machines
function front_guard.check(run, front, records)
  local ours = {}
  for _, record in ipairs(records) do
    for _, one in ipairs(record.machines) do ours[#ours + 1] = one.id end
  end
  return op.call {
    name = ("target of %s %s"):format(front.kind, front.name), class = "read", quiet = true,
    args = { machines = json.array(ours) },
    perform = function()
      local row, targets = look(run, front)
      local expected = {}
      for _, id in ipairs(ours) do expected[id] = true end
      for _, id in ipairs(targets) do
        if not expected[id] then
          local machine = run.cloud.driver:machine(id) or { id = id, name = id }
          refuse(run, front, ("leads to %s"):format(machine.name),
            owner.of(run, "machine", machine))
        end
      end
      local holder = row and #targets == 0 and owner.of(run, front.kind, row)
      if holder and owner.is_foreign(run, holder) then
        refuse(run, front, "leads nowhere", holder)
      end
      return json.array(table.move(targets, 1, #targets, 1, {}))
    end,
  }
end

return front_guard
