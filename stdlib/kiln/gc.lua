---What kiln made and nothing needs any more, by the ledger and by what the cloud says serves.
---
---Only what a run of this project's state file made, and what no front leads to, is ever removed.
---What carries this project's id and is not in the ledger is of another checkout or of a lost state
---file: it is shown, and `kiln.adopt` writes it down. Other projects' things are left alone.
local json = require "rt.json"
local timer = require "rt.timer"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local machine_keys = require "kiln.machine_keys"

local gc = {}

---@class kiln.gc.Row
---@field kind "machine"|"image"|"address"|"balancer"
---@field id? string the cloud's; nil: the cloud has it no more
---@field name string
---@field provider string
---@field token? string
---@field run? string the run that made it
---@field created? number seconds since 1970
---@field monthly? number US dollars, where the cloud says so
---@field why string
---@field release? integer the release that ends with it
---@field scope? string the lock of that release's service
---@field row? table the driver's
---@field intent? boolean it was asked for, and nobody knows the end
---@field key? string of the operation that asked for it

---@class kiln.gc.Found
---@field garbage kiln.gc.Row[]
---@field open kiln.gc.Row[] of runs that can be resumed or aborted
---@field lost kiln.gc.Row[] this project's, and in no ledger
---@field unlabelled kiln.gc.Row[] kiln's, of whichever project: an older kiln wrote no project down
---@field undecided kiln.gc.Row[] adopted, and nothing tells whether it is needed
---@field others table<string, integer> how many things other projects have, by project

local open_states = { running = true, aborting = true, stopped = true, kept = true }

---The lock of the run that made a release.
local function scope_of(store, release)
  local maker = store:run(release.run)
  return release.env .. "/"
    .. (maker and maker.service or environment.base(release.service, release.env))
end

---Who needs what, by id or name; and which machines end with a release whose time is over.
local function needed(store, now)
  local needs, over = { machine = {}, image = {}, address = {}, balancer = {} }, {}
  for _, release in ipairs(store:releases()) do
    local data = json.decode(release.data)
    local expired = release.state == "kept" and release.kept_until and release.kept_until < now
    for _, one in ipairs(data.machines) do
      if expired then
        over[one.id] = { release = release.id, scope = scope_of(store, release),
          why = ("release %s was kept until %s"):format(release.version,
            os.date("%Y-%m-%d %H:%M", release.kept_until // 1)) }
      else
        needs.machine[one.id] = true
      end
    end
    if not expired then needs.image[release.image] = true end
    needs[data.address.kind or "address"][data.address.id] = true
  end
  return needs, over
end

---What the cloud has. Bases are nobody's; a front may have no token of its own.
local function seen_in(driver)
  local seen, machines = {}, {}
  local function add(kind, rows)
    for _, row in ipairs(rows) do
      local front = kind == "address" or kind == "balancer"
      if kind == "machine" then machines[row.id] = row end
      if front or (row.token or ""):find("^kl%-") then
        seen[#seen + 1] = { kind = kind, row = row }
      end
    end
  end
  add("machine", driver:machines())
  add("image", driver:images())
  if driver.capabilities.addresses then add("address", driver:addresses()) end
  if driver.capabilities.load_balancers then add("balancer", driver:balancers()) end
  return seen, machines
end

---The machines that a front leads to, whoever made it, and the images that machines stand on.
local function in_use(driver, machines)
  local used = { machine = {}, image = {}, address = {}, balancer = {} }
  for _, id in ipairs(driver:targets()) do used.machine[id] = true end
  for _, row in pairs(machines) do used.image[row.image or ""] = true end
  return used
end

local function run_of(store, id, runs)
  if id and runs[id] == nil then runs[id] = store:run(id) or false end
  return id and runs[id] or nil
end

---The project that a thing's labels name; for a balancer, which has none, its members' labels.
local function project_of(kind, row, machines)
  if kind ~= "balancer" then return row.tags and row.tags.kiln_project end
  for _, id in ipairs(row.members) do
    local member = machines[id]
    if member then return member.tags.kiln_project end
  end
end

---Sorts a thing that the ledger does not have.
local function sort_unknown(found, one, context)
  local kind, row = one.kind, one.row
  local project = project_of(kind, row, context.machines)
  local maker = row.token and row.token:match("^kl%-(%x+)%-")
  local mine = project == nil and run_of(context.store, maker, context.runs)
  if mine then return "lost", "made by a run of this ledger, and not in it" end
  if project and project ~= context.project then
    found.others[project] = (found.others[project] or 0) + 1
  elseif project then
    return "lost", "this project's, and not in this ledger"
  elseif kind ~= "balancer" then
    return "unlabelled", "made by an older kiln for this project or another"
  end
end

---Sorts an adopted thing: the run that made it is in no state file here.
local function sort_adopted(one, context)
  local tags = one.row.tags or {}
  if tags.kiln_project == context.project and context.project then
    if one.kind == "image" then return "garbage", "no release uses it" end
    if tags.kiln_role == "builder" then return "garbage", "the builder of a run that is lost" end
  end
  return "undecided", "adopted; look at it, and remove it in the cloud if nothing needs it"
end

---Sorts a thing of the ledger.
local function sort_known(one, known, context)
  local kind, row = one.kind, one.row
  local needs, over, used = context.needs, context.over, context.used
  if used[kind][row.id] or kind == "balancer" and #row.members > 0
    or kind == "address" and row.target then return end
  if over[row.id] and kind == "machine" then
    return "garbage", over[row.id].why, over[row.id]
  end
  if needs[kind][row.id] or kind == "image" and needs.image[row.name] then return end
  local run = run_of(context.store, known.run, context.runs)
  if not run then return sort_adopted(one, context) end
  if open_states[run.status] then
    return "open", ("run %s is %s"):format(run.id:sub(1, 4), context.store:state_of(run))
  end
  return "garbage", kind == "image" and "no release uses it"
    or ("run %s is over"):format(run.id:sub(1, 4))
end

local function entry(driver, one, why, more)
  local row = one.row
  return {
    kind = one.kind, id = row.id, name = row.name, provider = driver.name, token = row.token,
    run = row.token and row.token:match("^kl%-(%x+)%-"), created = row.created,
    monthly = row.monthly, why = why, release = more and more.release, scope = more and more.scope,
    row = row,
  }
end

---The ledger's rows of a cloud, by token, and those that live by kind and id.
local function ledger_of(store, driver)
  local by_token, by_id = {}, {}
  for _, row in ipairs(store:ledger()) do
    if row.provider == driver.name then
      by_token[row.token] = row
      if row.state == "live" then by_id[row.kind .. " " .. row.id] = row end
    end
  end
  return by_token, by_id
end

---What the ledger has and the cloud has not, as far as it can be seen. A load balancer is found by
---its name alone: one that was asked for and one that is there of that name may be the same.
local function add_vanished(found, driver, left, context)
  for token, row in pairs(left) do
    local run = run_of(context.store, row.run, context.runs)
    local over = not (run and open_states[run.status])
    if row.state ~= "gone" and over and row.kind ~= "database" then
      local intent = row.state == "intent"
      local there = intent and context.balancers[row.kind .. " " .. row.name]
      table.insert(there and found.undecided or found.garbage, {
        kind = row.kind, name = row.name, provider = driver.name, token = token, run = row.run,
        created = row.created, intent = intent, key = row.key,
        why = there and "asked for, and one of that name is there: remove it if nothing needs it"
          or intent and "asked for, and not known to be there"
          or "in the ledger, but not in the cloud",
      })
    end
  end
end

---Sorts what a cloud has and what the ledger says into what may go and what not. What a front leads
---to, and what a serving or kept release of any environment needs, is in none of the lists.
---@async
---@param store kiln.Store
---@param driver table
---@param project? string this project's id
---@return kiln.gc.Found
function gc.find(store, driver, project)
  local seen, machines = seen_in(driver)
  local needs, over = needed(store, timer.time())
  local context = {
    store = store, project = project, runs = {}, machines = machines, needs = needs, over = over,
    used = in_use(driver, machines), balancers = {},
  }
  local left, by_id = ledger_of(store, driver)
  local found = { garbage = {}, open = {}, lost = {}, unlabelled = {}, undecided = {}, others = {} }
  for _, one in ipairs(seen) do
    local row = one.row
    if one.kind == "balancer" then context.balancers["balancer " .. row.name] = true end
    local known = row.token and left[row.token] or by_id[one.kind .. " " .. row.id]
    local owner = project_of(one.kind, row, machines)
    if known and project and owner and owner ~= project then -- whatever the ledger says of it
      left[known.token], known = nil, nil
    end
    local list, why, more
    if known then
      left[known.token], row.token = nil, known.token
      list, why, more = sort_known(one, known, context)
    else
      list, why = sort_unknown(found, one, context)
    end
    if list then table.insert(found[list], entry(driver, one, why, more)) end
  end
  add_vanished(found, driver, left, context)
  for name, list in pairs(found) do
    if name ~= "others" then
      table.sort(list, function(a, b)
        if a.kind ~= b.kind then return a.kind > b.kind end -- machines stand on images
        return a.name < b.name
      end)
    end
  end
  return found
end

local destroy = {
  machine = function(driver, id) driver:destroy_machine(id) end,
  image = function(driver, id) driver:destroy_image(id) end,
  address = function(driver, id) driver:destroy_address(id) end,
  balancer = function(driver, id) driver:destroy_balancer(id) end,
}

---A front may have been moved since the list was made.
local function refuse_target(driver, row)
  if row.kind ~= "machine" or not row.id then return end
  for _, id in ipairs(driver:targets()) do
    if id == row.id then
      error_.raise { kind = "exists", message = ("an address or a load balancer leads to %s now")
        :format(row.name) }
    end
  end
end

---Removes what the creation of an address left that no run will finish. Raises `in_doubt` where an
---address may be of it and nobody can tell.
---@return boolean there
local function discard(store, driver, row)
  local op = row.run and store:op(row.run, row.key)
  return driver:discard_address {
    name = row.name, token = row.token, known = op and json.decode(op.args).known,
  }
end

---Removes one row of `garbage`, with its host key here; one that the cloud does not have, from the
---ledger. A release that it ends is retired under its service's lock. Raises `locked`, `exists`
---when a front leads to it by now, `in_doubt`, and what the cloud raises.
---@async
---@param store kiln.Store
---@param driver table
---@param row kiln.gc.Row
---@return boolean there whether the cloud had it
function gc.remove(store, driver, row)
  refuse_target(driver, row)
  if row.release then
    local fence = store:lease_take { scope = row.scope, run = "gc", ttl = 600 }
    if not fence then
      error_.raise { kind = "locked", message = ("a run works on %s"):format(row.scope) }
    end
    store:release_state(row.release, "retired")
    store:lease_release()
  end
  local there = row.id ~= nil
  if there then
    destroy[row.kind](driver, row.id)
  elseif row.intent and row.kind == "address" then
    there = discard(store, driver, row)
  end
  store:ledger_gone(row.token)
  if row.kind == "machine" then machine_keys.forget(store.folder, row.token) end
  return there
end

---Removes the host keys of machines that are gone, which an older kiln left.
---@param store kiln.Store
function gc.sweep_keys(store)
  for _, row in ipairs(store:ledger { kind = "machine", state = "gone" }) do
    machine_keys.forget(store.folder, row.token)
  end
end

return gc
