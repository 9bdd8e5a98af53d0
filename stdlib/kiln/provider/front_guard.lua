---Before a front moves: it leads to what the ledger says serves, or to nothing. Whatever else it
---leads to serves somebody: another environment, another project, or this service from another
---checkout, whose ledger is not here.
local json = require "rt.json"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local op = require "kiln.op"

local front_guard = {}

---@class kiln.Owner
---@field project? string
---@field env? string
---@field service? string
---@field run? string
---@field known boolean whether this project's ledger has it
---@field kiln boolean whether kiln made it

---Returns who made a thing: what the ledger says, else what its labels say.
---@param run kiln.Run
---@param kind "machine"|"address"
---@param row table the driver's
---@return kiln.Owner
local function owner_of(run, kind, row)
  local tags = row.tags or {}
  local owner = {
    project = tags.kiln_project, env = tags.kiln_env, service = tags.kiln_service,
    run = row.token and row.token:match("^kl%-(%x+)%-"), known = false,
    kiln = row.token ~= nil or tags.kiln_project ~= nil,
  }
  for _, made in ipairs(run.store:ledger { kind = kind, state = "live" }) do
    if made.provider == run.cloud.name and made.id == row.id then
      local maker = run.store:run(made.run)
      owner.known, owner.kiln = true, true
      owner.project = owner.project or run.store:project()
      owner.env = owner.env or maker and maker.env
      owner.service = owner.service or made.service
      owner.run = owner.run or made.run
    end
  end
  return owner
end

local function described(owner, ours)
  if not owner.kiln then return "which kiln did not make" end
  local parts = {}
  if owner.project and owner.project ~= ours then
    parts[1] = "project " .. owner.project
  elseif owner.project then
    parts[1] = "this project"
  end
  for _, name in ipairs { "env", "service", "run" } do
    local text = owner[name]
    if text and name == "run" then text = text:sub(1, 4) end
    if text then parts[#parts + 1] = (name == "env" and "environment" or name) .. " " .. text end
  end
  return "which belongs to " .. table.concat(parts, ", ")
end

---Says what to do, by whose it is.
local function way_out(run, front, owner, ours)
  local own = ("run.cloud:%s(%s)"):format(front.kind, front.kind == "balancer" and "nil, {…}" or "")
  if not owner.kiln then
    return ("point it elsewhere by hand if that is meant, or take another %s, as %s does")
      :format(front.kind, own)
  end
  if owner.project and owner.project ~= ours then
    return ("give this project's service or its %s another name; it must not take another "
      .. "project's"):format(front.kind)
  end
  if owner.env and owner.env ~= run.env then
    local flag = owner.env == environment.default and "without -e" or "with -e " .. owner.env
    return ("each environment needs its own %s: leave the name out, `%s`, and it is called %s. A "
      .. "release for environment %s is run %s"):format(front.kind, own, run.name, owner.env, flag)
  end
  if owner.known then
    return ("`kiln status` shows what the ledger says; `kiln rollback %s` makes a kept release the "
      .. "serving one"):format(run.name)
  end
  return "it was put into service from another checkout, whose ledger is not here: copy its folder "
    .. ".kiln to this one, or take its machines into this ledger with `kiln gc --adopt`"
end

local function refuse(run, front, what, owner)
  local ours = run.store:project()
  error_.raise {
    kind = "invalid", front = front.name,
    message = ("%s %s %s, %s; nothing was changed: %s"):format(front.kind, front.name, what,
      described(owner, ours), way_out(run, front, owner, ours)),
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
            owner_of(run, "machine", machine))
        end
      end
      local owner = row and front.kind == "address" and #targets == 0
        and owner_of(run, "address", row)
      local foreign = owner and owner.project and (owner.project ~= run.store:project()
        or owner.env ~= nil and owner.env ~= run.env)
      if foreign then refuse(run, front, "leads nowhere", owner) end
      return json.array(table.move(targets, 1, #targets, 1, {}))
    end,
  }
end

return front_guard
