---Cases of the kill matrix: a scenario, a point to die at, what follows, what must hold then.
local json = require "rt.json"
local error_ = require "kiln.error"
local run = require "kiln.run"
local timer = require "rt.timer"
local store_ = require "kiln.store"
local cloud = require "spec.matrix.cloud"
local death = require "spec.matrix.death"
local inject = require "spec.matrix.inject"

local cases = {}

---What happens before, what is killed, how it ends undisturbed.
cases.scenarios = {
  deploy = { before = {}, version = "v1", ends = "done" },
  swap = { before = { "v1" }, version = "v2", ends = "done" },
  third = { before = { "v1", "v2" }, version = "v4", ends = "done" },
  failing = { before = { "v1" }, version = "v3", ends = "rolled_back" },
  choices = { before = {}, version = "v1", ends = "done", recipe = "choices.lua" },
  -- The examples; `args` as a user gives them.
  example = { before = { "v1" }, version = "v2", ends = "done", folder = "examples/app" },
  broken = { before = { "v1" }, version = "v3", ends = "rolled_back", folder = "examples/app" },
  retire = { before = { "v1", "v2" }, version = "v1", ends = "done", folder = "examples/app" },
  database = { before = {}, version = "v1", ends = "done", folder = "examples/digitalocean",
    args = { domain = "example.com" } },
  several = { before = { "v1" }, version = "v2", ends = "done", folder = "examples/digitalocean",
    args = { count = 2 } },
}

local current -- the world that a run's cloud leads to

package.preload["providers.simulated"] = function()
  return { new = function() return current:driver() end }
end

---What the recipes wait with. `pause`: outside of operations, and only when the run is continued.
package.preload["kiln.spec_world"] = function()
  return {
    sleep = timer.sleep, pause = function() if current.later then timer.sleep(7) end end,
  }
end

---Calls what may die in the middle: what a dead process would have said is nothing.
local function lived(call, ...)
  local ok, made = pcall(call, ...)
  if death.dead then return nil end
  if not ok then error(made, 0) end
  return made
end

local function start(world, scenario, version)
  current = world
  local args = { version = version }
  for name, value in pairs(scenario.args or {}) do args[name] = value end
  return lived(run.start, {
    file = world.dir .. "/" .. (scenario.recipe or "app.lua"), cloud = "simulated", args = args,
    on_error = world.on_error,
  })
end

local function said(made)
  return made.status .. (made.error and ": " .. made.error.message or "")
end

local function open(world)
  return store_.open(world.dir)
end

local function state_of(world)
  local store <close> = open(world)
  return world:state(store)
end

---The world as a scenario finds it.
local function prepare(scenario)
  local world = cloud.new { folder = scenario.folder }
  world.guests:install()
  death.live(nil)
  for _, version in ipairs(scenario.before) do
    local made = start(world, { args = scenario.args }, version)
    assert(made.status == "done", made.error and made.error.message)
    world.in_service = true
  end
  world.start = state_of(world)
  return world
end

---An undisturbed run: its points, and the state that every other one must reach.
---@param name string
---@return { points: string[], requests: table[], operations: table[], start: table, final: table }
function cases.count(name)
  local scenario = cases.scenarios[name]
  local world = prepare(scenario)
  local before = #world.seen
  death.live(nil)
  local operations = inject.watch()
  local made = start(world, scenario, scenario.version)
  assert(made.status == scenario.ends, said(made))
  local found = {
    points = death.seen, operations = operations, start = world.start, final = state_of(world),
    requests = table.move(world.seen, before + 1, #world.seen, 1, {}),
  }
  world:close()
  return found
end

---The run that a dead process left; nil when it died before it was written down.
local function left_by(world)
  local store <close> = open(world)
  local row = store:runs { limit = 1 }[1]
  local open_ = row and (row.status == "running" or row.status == "aborting"
    or row.status == "stopped")
  return open_ and row.id or nil, row
end

local function problems_of(world, allowed)
  local found, state = {}, state_of(world)
  local text, matches = json.encode(state), false
  for _, wanted in ipairs(allowed) do matches = matches or json.encode(wanted) == text end
  if not matches then found[1] = cloud.differ(allowed[1], state) end
  for _, orphan in ipairs(cloud.orphans(state)) do found[#found + 1] = orphan end
  for _, command in ipairs(world:doubled()) do found[#found + 1] = "ran twice: " .. command end
  for _, moment in ipairs(world.lost) do found[#found + 1] = "no service at " .. moment end
  return found
end

---Goes on with the run until it is no longer open; dies once more at `second` if given.
local function go_on(world, id, how, second)
  world.later = true
  death.bury(world.dir .. "/.kiln/state.db")
  death.live(second)
  local made = lived(run[how], { run = id, dir = world.dir })
  if not death.dead then return made end
  death.bury(world.dir .. "/.kiln/state.db")
  death.live(nil)
  if not left_by(world) then return nil end
  return run[how] { run = id, dir = world.dir }
end

---An image that was finished stays when its run is aborted: it is what its inputs say.
local function with_image(begin, final)
  local state = json.decode(json.encode(begin))
  state.images = final.images
  state.ledger = {}
  for _, text in ipairs(final.ledger) do
    if text:find "^image" then state.ledger[#state.ledger + 1] = text end
  end
  for _, text in ipairs(begin.ledger) do
    if not text:find "^image" then state.ledger[#state.ledger + 1] = text end
  end
  table.sort(state.ledger)
  return state
end

---The address is made once and outlives releases: it may be there, pointing nowhere.
local function with_address(state)
  local copy = json.decode(json.encode(state))
  if #copy.addresses == 0 then
    copy.addresses = { "app -> none" }
    table.insert(copy.ledger, "address app")
    table.sort(copy.ledger)
  end
  return copy
end

---Runs one case.
---@param name string of the scenario
---@param known table from `cases.count`
---@param at integer the point to die at
---@param how "resume"|"abort"
---@param second? integer the point of the continued run to die at
---@return string[] problems none: everything holds
function cases.run(name, known, at, how, second)
  local scenario = cases.scenarios[name]
  local world = prepare(scenario)
  death.live(at)
  start(world, scenario, scenario.version)
  if not death.dead then
    world:close()
    return { "the run did not come to point " .. at }
  end
  death.live(nil)
  local id, row = left_by(world)
  local allowed = { known.final }
  local found = {}
  if id then
    local made = go_on(world, id, how, second)
    if how == "abort" then
      local with = with_image(known.start, known.final)
      allowed = { known.start, with, with_address(known.start), with_address(with) }
      if made and made.status == "done" then
        allowed = { known.final } -- it was too late to abort
      elseif made and made.status ~= "aborted" then
        found[1] = "abort ended " .. said(made)
      end
    elseif made and made.status ~= scenario.ends then
      found[1] = "resume ended " .. said(made)
    end
  elseif not row or #scenario.before > 0 and row.status == "done"
    and json.encode(state_of(world)) == json.encode(known.start) then
    allowed = { known.start } -- it died before it was written down: nothing happened
  end
  for _, problem in ipairs(problems_of(world, allowed)) do found[#found + 1] = problem end
  world:close()
  return found
end

---What a rolled back run may leave: what was there, its image, the address.
local function undone(known)
  local with = with_image(known.start, known.final)
  return { known.start, with, with_address(known.start), with_address(with) }
end

---What the run's ledger has as begun and neither there nor gone.
local function intents_of(world)
  local store <close> = open(world)
  local found = {}
  for _, row in ipairs(store:ledger { state = "intent" }) do
    found[#found + 1] = ("the ledger has an intent: %s %s"):format(row.kind, row.name)
  end
  return found
end

---Runs a scenario with a fault placed on one of its requests. It ends done, or rolled back, or
---stopped; then its resume ends done or rolled back.
---@param name string of the scenario
---@param known table from `cases.count`
---@param fault kiln.do.sim.Fault
---@return string[] problems none: everything holds
---@return string status how it ended
function cases.fault(name, known, fault)
  local scenario = cases.scenarios[name]
  local world = prepare(scenario)
  world.sim.faults:place(fault)
  death.live(nil)
  local made = start(world, scenario, scenario.version)
  local ends, status, found = made, made.status, {}
  -- A token that is refused before anything was done ends the run; it is started anew then.
  local refused = made.status == "failed" and made.exit == 7
  if made.status == "stopped" then
    if made.exit ~= 4 then found[1] = "stopped with exit " .. made.exit end
    if fault.kind == "endless" then world:give_up() end -- before that nothing can go on
    ends = go_on(world, made.run, "resume")
    status = "stopped, then " .. ends.status
  end
  if ends.status ~= "done" and not (ends.status == "rolled_back" and ends.exit == 3)
    and not refused then
    found[#found + 1] = "ended " .. said(ends)
  end
  local allowed = undone(known)
  if refused then allowed = { known.start } end
  if ends.status == "done" then allowed = { known.final } end
  if ends.status == scenario.ends then allowed[#allowed + 1] = known.final end
  timer.sleep(3600) -- what was on its way has come, or gone
  for _, problem in ipairs(problems_of(world, allowed)) do found[#found + 1] = problem end
  for _, problem in ipairs(intents_of(world)) do found[#found + 1] = problem end
  if #found > 0 then found[#found + 1] = "first ended " .. said(made) end
  world:close()
  return found, status
end

---What outlives runs: it may stay when all else is undone.
local outlives = { image = true, address = true, balancer = true, database = true }

---A state without what an undone run may have left of what outlives it.
---@param state table
---@param begin table the state before the run
local function without_outliving(state, begin)
  local copy = json.decode(json.encode(state))
  for kind, list in pairs(copy) do
    local before = {}
    for _, text in ipairs(begin[kind]) do before[text] = true end
    for index = #list, 1, -1 do
      local text = list[index]
      local front = (kind == "addresses" or kind == "balancers") and text:find("-> n?o?n?e?$")
      local may_stay = kind == "images" or kind == "databases" or front
        or kind == "ledger" and outlives[text:match("^%S+")]
      if may_stay and not before[text] then table.remove(list, index) end
    end
  end
  return copy
end

---Tells whether two states have the same lists.
local function are_same(a, b)
  for kind, list in pairs(a) do
    if table.concat(list, "\n") ~= table.concat(b[kind], "\n") then return false end
  end
  return true
end

---What does not hold at the end of a run that failed at an operation. One that failed for good
---after it gave the old up is not undone: its release serves.
local function problems_at_end(world, ends, known, fault)
  local state, found = state_of(world), intents_of(world)
  local final = are_same(state, known.final)
  local as_before = are_same(without_outliving(state, known.start), known.start)
  local given_up = fault.committed and ends.status == "failed"
  if not given_up and not final and (ends.status == "done" or not as_before) then
    found[#found + 1] = cloud.differ(ends.status == "done" and known.final or known.start, state)
  end
  for _, orphan in ipairs(cloud.orphans(state)) do found[#found + 1] = orphan end
  if #world.lost > 0 then
    found[#found + 1] = ("no service at %d requests, the first %s"):format(#world.lost,
      world.lost[1])
  end
  return found
end

---Ends a run that is not over: by an abort while the cause is there; where that cannot undo all, by
---one when it is gone.
local function abort(world, made, fault, found)
  local ends = go_on(world, made.run, "abort")
  local over = ends.status == "aborted" or ends.status == "done"
  local may_go_on = fault.undoing and not (fault.committed and ends.status == "failed")
  if not over and (may_go_on or error_.halts(fault.error)) then
    inject.place(nil)
    ends = go_on(world, made.run, "abort")
  end
  local may_fail = fault.committed and ends.status == "failed"
  if ends.status ~= "aborted" and ends.status ~= "done" and not may_fail then
    found[#found + 1] = "the abort ended " .. said(ends)
  end
  return ends
end

---Resumes a run when the cause is gone. One that fails by itself and is kept is aborted then.
local function resume(world, made, scenario, found)
  inject.place(nil)
  local ends = go_on(world, made.run, "resume")
  if ends.status == "kept" and scenario.ends ~= "done" then
    return abort(world, made, { error = {} }, found)
  end
  if ends.status ~= scenario.ends then found[#found + 1] = "the resume ended " .. said(ends) end
  return ends
end

---Runs a scenario in which an operation fails before its first request; the run that is not over
---then is aborted, or resumed when the cause is gone.
---@param name string of the scenario
---@param known table from `cases.count`
---@param fault spec.Injection
---@param how "abort"|"resume"
---@param on_error "cleanup"|"keep"
---@return string[] problems none: everything holds
---@return string status how it ended at first
function cases.ended(name, known, fault, how, on_error)
  local scenario, found = cases.scenarios[name], {}
  local world = prepare(scenario)
  world.on_error = on_error
  inject.place(fault)
  death.live(nil)
  local made = start(world, scenario, scenario.version)
  local ends = made
  -- Of a run that fails by itself and is kept, nothing is undone.
  local kept = made.status == "kept" and scenario.ends ~= "done"
  if not fault.reached and not kept then found[1] = "the run did not come to " .. fault.key end
  local open_ = made.status == "stopped" or made.status == "kept"
  if open_ and how == "resume" then
    ends = resume(world, made, scenario, found)
  elseif open_ or made.status == "failed" and made.exit ~= 7 then
    ends = abort(world, made, fault, found)
  end
  inject.place(nil)
  for _, problem in ipairs(problems_at_end(world, ends, known, fault)) do
    found[#found + 1] = problem
  end
  if #found > 0 then found[#found + 1] = "first ended " .. said(made) end
  world:close()
  return found, made.status
end

return cases
