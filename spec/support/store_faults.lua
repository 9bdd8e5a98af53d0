---Fails every call of SQLite to the disk, one after the other, in a run that makes, commands and
---waits; then goes on from what the disk has, and from what a power cut would have left on it.
---The whole of it: `cmake --build --preset release --target faults-store`. One case:
---`kiln lua spec/support/store_faults.lua full:31:sticky`.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local journal = require "rt.journal"
local run_ = require "kiln.run"

local faults = {}

package.cpath = fs.realpath("/proc/self/exe"):match("^(.*)/") .. "/?.so;" .. package.cpath
local fault_vfs = require "fault_vfs"

local world

---The world of the recipe: what was made, which commands ran, what was written.
local function new_world()
  return { made = {}, commands = {}, written = {}, tokens = {}, undone = 0 }
end

local function copy(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, field in pairs(value) do out[key] = copy(field) end
  return out
end

package.preload["providers.none"] = package.preload["providers.none"] or function()
  return { new = function() return { name = "none", capabilities = {} } end }
end

package.preload["kiln.fault_world"] = function()
  return {
    make = function(token)
      world.tokens[token] = true
      world.made[#world.made + 1] = token
      return #world.made
    end,
    find = function(token)
      for id, made in ipairs(world.made) do
        if made == token then return id end
      end
    end,
    -- A guarded command: under one token it runs once, and its output can be read again.
    command = function(token)
      world.tokens[token] = true
      if not world.commands[token] then world.commands[#world.commands + 1] = token end
      world.commands[token] = "output of " .. token
      return world.commands[token]
    end,
    write = function(token, name)
      world.tokens[token] = true
      world.written[name] = true
    end,
    undo = function() world.undone = world.undone + 1 end,
  }
end

local recipe = [[
local op = require "kiln.op"
local scope = require "kiln.scope"
local world = require "kiln.fault_world"
local app = { name = "app" }

function app.deploy(run)
  return run:transaction(function(undo)
    local id = op.call {
      name = "make", class = "adopt",
      perform = function(token)
        run.store:ledger_intent { run = run.id, key = "k", provider = "none", kind = "machine",
          name = "app-1", token = token }
        local made = world.make(token)
        run.store:ledger_live(token, tostring(made), "{}")
        return made
      end,
      settle = world.find,
    }
    undo("destroy", world.undo)
    run:step { name = "commands", perform = function()
      for index = 1, 3 do
        op.call { name = "command " .. index, class = "once", perform = world.command }
      end
    end }
    for index = 1, 25 do run:note("line " .. index) end
    scope.all({ "a", "b" }, function(name)
      op.call { name = "write " .. name, class = "idempotent",
        perform = function(token) world.write(token, name) end }
    end)
    return id
  end)
end
return app
]]

local function expect(condition, case, what)
  if not condition then error(("%s: %s"):format(case.name, what), 0) end
end

local function start(dir, case)
  case.events = {}
  return run_.start {
    file = dir .. "/app.lua", cloud = "none",
    emit = function(event) case.events[#case.events + 1] = event end,
  }
end

local function is_whole()
  return #world.made == 1 and #world.commands == 3 and world.written.a and world.written.b
    and world.undone == 0
end

---What the user was told is in the image; what happened in the world has an intent there.
local function check_image(case, db, id)
  local rows = assert(db:exec("SELECT * FROM ops WHERE run = ?1", { id }))
  local tokens, state = {}, {}
  for _, row in ipairs(rows) do
    tokens["kl-" .. id .. "-" .. crypto.sha256(row.key):sub(1, 8)] = true
    state[row.key] = row.state
  end
  for token in pairs(world.tokens) do
    expect(tokens[token], case, "an effect without a durable intent")
  end
  for _, event in ipairs(case.events) do
    if event.type == "op.done" then
      expect(state[event.key] == "done", case, "lost the outcome of " .. event.name)
    end
  end
end

---Goes on from an image of the state: the run there, or a new one when it never began.
local function go_on(case, dir)
  local path = dir .. "/.kiln/state.db"
  local db = fs.stat(path) and assert(journal.open(path)) or assert(journal.open(dir .. "/none.db"))
  local there = #assert(db:exec("SELECT 1 FROM sqlite_schema WHERE name = 'runs'")) == 1
  local row = there and assert(db:exec("SELECT * FROM runs"))[1]
  if row then
    check_image(case, db, row.id)
    db:exec("UPDATE leases SET pid_started = pid_started + 1")
  else
    expect(next(world.tokens) == nil, case, "an effect of a run that is not there")
  end
  db:close()
  if row and row.status == "done" then return expect(is_whole(), case, "done, but not whole") end
  expect(case.outcome.status ~= "done", case, "the end was told and is lost")
  local outcome = row and run_.resume { run = row.id, dir = dir } or start(dir, copy(case))
  expect(outcome.status == "done", case, "afterwards " .. outcome.status .. ": "
    .. tostring(outcome.error and outcome.error.message))
  expect(is_whole(), case, "afterwards something is missing or there twice")
end

local function check_outcome(case)
  local outcome = case.outcome
  if outcome.status == "done" then return end -- the fault hit what could wait
  local err = outcome.error
  expect(err.kind == "store", case, "the error is " .. tostring(err))
  expect(err.message:find("state in .*/state%.db: .+; .+"), case, "no help: " .. err.message)
  expect(outcome.exit == (outcome.run and 4 or 1), case, "exit status " .. outcome.exit)
end

local function in_folder(body)
  local dir = assert(fs.temp_dir())
  assert(fs.write(dir .. "/app.lua", recipe))
  local result = table.pack(pcall(body, dir))
  assert(fs.remove(dir, { recursive = true }))
  if not result[1] then error(result[2], 0) end
  return table.unpack(result, 2, result.n)
end

---Puts the copies of what was synced into a project folder of their own.
local function power_cut(dir)
  local image = dir .. "/after-power-cut"
  assert(fs.mkdir(image .. "/.kiln", { parents = true }))
  assert(fs.write(image .. "/app.lua", recipe))
  for _, name in ipairs { "state.db", "state.db-wal" } do
    local bytes = fs.read(dir .. "/.kiln/" .. name .. ".durable")
    if bytes then assert(fs.write(image .. "/.kiln/" .. name, bytes)) end
  end
  return image
end

---Counts the calls that a kind of fault can hit in an undisturbed run.
---@param kind "full"|"torn"|"broken"
---@return integer
function faults.count(kind)
  return in_folder(function(dir)
    world = new_world()
    fault_vfs.arm { kind = kind }
    local outcome = start(dir, {})
    local calls = fault_vfs.disarm()
    assert(outcome.status == "done" and is_whole(), "the undisturbed run is not whole")
    return calls
  end)
end

---Runs one case. Raises what does not hold.
---@param kind "full"|"torn"|"broken" the disk is full; half a write, then an error; an error
---@param nth integer which of the calls fails
---@param sticky boolean all after it fail too
---@return string status of the disturbed run
---@return string? fired what failed
function faults.case(kind, nth, sticky)
  local case = { name = ("%s:%d:%s"):format(kind, nth, sticky and "sticky" or "once") }
  return in_folder(function(dir)
    world = new_world()
    fault_vfs.arm { kind = kind, nth = nth, sticky = sticky }
    case.outcome = start(dir, case)
    local _, fired = fault_vfs.disarm()
    case.name = case.name .. " (" .. tostring(fired) .. ")"
    check_outcome(case)
    local before = copy(world)
    go_on(case, power_cut(dir))
    world = before
    go_on(case, dir)
    return case.outcome.status, fired
  end)
end

---Runs every `stride`-th case of every kind.
---@param stride integer
---@return { cases: integer, fired: integer, statuses: table<string, integer>, calls: table }
function faults.matrix(stride)
  local total = { cases = 0, fired = 0, statuses = {}, calls = {} }
  for index, kind in ipairs { "full", "torn", "broken" } do
    total.calls[kind] = faults.count(kind)
    for nth = 1 + index % stride, total.calls[kind], stride do
      for _, sticky in ipairs { false, true } do
        local status, fired = faults.case(kind, nth, sticky)
        total.cases = total.cases + 1
        total.fired = total.fired + (fired and 1 or 0)
        total.statuses[status] = (total.statuses[status] or 0) + 1
      end
    end
  end
  return total
end

---Says in one line what a matrix was.
---@param total table
---@return string
function faults.summary(total)
  local parts = {}
  for _, status in ipairs { "done", "stopped", "failed" } do
    parts[#parts + 1] = ("%d %s"):format(total.statuses[status] or 0, status)
  end
  return ("store faults: %d cases over %d calls (disk full %d, torn %d, any error %d): %s; each "
    .. "went on to the whole, from the disk and after a power cut"):format(total.cases,
    total.calls.broken, total.calls.full, total.calls.torn, total.calls.broken,
    table.concat(parts, ", "))
end

local chosen = arg and arg[0] and arg[0]:find("store_faults.lua", 1, true) and (arg[1] or "all")
if chosen == "all" then
  print(faults.summary(faults.matrix(1)))
elseif chosen then
  local kind, nth, how = chosen:match("^(%l+):(%d+):(%l+)$")
  print(faults.case(kind, tonumber(nth), how == "sticky"))
end

return faults
