---`kiln runs`, `show`, `log`, `status` and `doctor`: what the store and the cloud know.
local json = require "rt.json"
local timer = require "rt.timer"
local doctor = require "kiln.doctor"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local failure = require "kiln.cli.failure"
local provider = require "kiln.provider"
local render = require "kiln.cli.render"
local screen = require "kiln.cli.screen"
local store_ = require "kiln.store"

local report = {}

local function opened(options)
  return store_.open(options.dir or ".", { existing = true })
end

local say = screen.say

---A list of the store's rows, without what the store adds to it.
local function list(rows)
  return json.array(table.move(rows, 1, #rows, 1, {}))
end

local function print_json(value)
  screen.json(value)
  return 0
end

---"2 min", "1 day": how long ago, in the largest unit that fits.
local function age(time)
  local passed = timer.time() - (time or 0)
  for _, unit in ipairs { { 86400, "d" }, { 3600, "h" }, { 60, "min" } } do
    if passed >= unit[1] then return ("%d %s"):format(passed // unit[1], unit[2]) end
  end
  return ("%d s"):format(math.max(passed, 0) // 1)
end

local function find(store, id)
  local row = store:run(id)
  if not row then
    error_.raise { kind = "usage",
      message = ("no run '%s' here; `kiln runs` lists them"):format(id) }
  end
  return row
end

---Lists runs, the newest first; with the action "prune", forgets old ones.
---@async
---@param options table
---@return integer status
function report.runs(options)
  local store <close> = opened(options)
  if options.action then return require("kiln.cli.prune").run(store, options) end
  local rows = store:runs()
  if options.json then return print_json(list(rows)) end
  if #rows == 0 then say "no run yet" end
  for _, row in ipairs(rows) do
    local service = environment.name(row.service, row.env)
    say("%-6s %-12s %-12s %-14s %6.1fs  %s ago", row.id:sub(1, 4), service, row.entry,
      (store:state_of(row):gsub("_", " ")), (row.ended or timer.time()) - row.started,
      age(row.started))
  end
  return 0
end

---Shows a run.
---@param options table
---@return integer status
function report.show(options)
  local store <close> = opened(options)
  local row = find(store, options.run)
  local ops, left = store:ops(row.id), store:ledger { run = row.id, state = "live" }
  if options.json then
    return print_json { run = row, operations = list(ops), remains = list(left) }
  end
  say("run %s · %s · %s · %s · %s", row.id, environment.name(row.service, row.env), row.entry,
    row.cloud, (store:state_of(row):gsub("_", " ")))
  say("arguments %s", row.args)
  local marks = { done = "✓", failed = "✗", again = "✗", intent = "?" }
  for _, op in ipairs(ops) do
    local took = op.ended and ("%.1fs"):format(op.ended - op.started) or "open"
    if op.class ~= "choice" then -- which of several tasks decided: for a replay alone
      say("  %s %-12s %-10s %-60s %8s", marks[op.state], op.key, op.class, op.name, took)
    end
  end
  if row.error then
    local err = json.decode(row.error, { bytes = "keep" })
    screen.print(("%s: %s"):format(err.kind, err.message))
    if err.at and not err.message:find(err.at, 1, true) then say("    at %s", err.at) end
    for _, line in ipairs(failure.output(err)) do say("    %s", line) end
    for _, line in ipairs(failure.traceback(err)) do say("%s", line) end
  end
  for _, one in ipairs(left) do say("  made and still there: %s %s", one.kind, one.name) end
  if row.status == "stopped" or row.status == "kept" or row.status == "running" then
    say("  go on: kiln resume %s · undo: kiln abort %s", row.id:sub(1, 4), row.id:sub(1, 4))
  end
  return 0
end

local follow_interval = 0.2 -- seconds between two looks at the events of a run that goes on

---Tells whether a run will get no more events.
local function has_ended(store, row)
  local state = store:state_of(store:run(row.id))
  return state ~= "running" and state ~= "aborting"
end

---Prints a run's events as they were shown then, with what commands printed. With `follow`, goes on
---until the run has ended.
---@async
---@param options { run: string, follow: boolean?, json: boolean?, dir: string? }
---@return integer status
function report.log(options)
  local store <close> = opened(options)
  local row = find(store, options.run)
  local display = render.new { json = options.json, verbose = true, to_stdout = true }
  local last, ended = 0, not options.follow
  repeat
    ended = ended or has_ended(store, row) -- asked before the events are read: none is missed
    for _, event in ipairs(store:events(row.id, { after = last })) do
      local events = event.type == "output" and store.output_events(event)
        or { json.decode(event.body, { bytes = "keep" }) }
      for _, one in ipairs(events) do display:event(one) end
      last = event.seq
    end
    io.stdout:flush()
    if not ended then timer.sleep(follow_interval) end
  until ended
  return 0
end

local function kept_text(row)
  if row.off then return "off: kiln up" end
  if row.state ~= "kept" then return row.state end
  if not row.kept_until then return "kept" end
  local clock = os.date(math.abs(timer.time() - row.kept_until) < 43200 and "%H:%M" or "%Y-%m-%d",
    row.kept_until // 1)
  if row.kept_until >= timer.time() then return "kept until " .. clock end
  return ("overdue since %s: kiln gc"):format(clock)
end

---Names the local machines that went down with this host, and what is broken of their network; asks
---no cloud.
local function lost_machines(store)
  local lost, driver = {}, nil
  for _, row in ipairs(store:ledger { kind = "machine", state = "live" }) do
    driver = driver or row.provider == "local" and provider.driver "local" or nil
  end
  if not driver then return lost, {} end
  for _, row in ipairs(driver:machines()) do lost[row.name] = row.lost end
  return lost, driver:broken()
end

---Shows every service.
---@async
---@param options table
---@return integer status
function report.status(options)
  local store <close> = opened(options)
  local rows = store:releases(options.env)
  local lost, broken = lost_machines(store)
  local last
  for _, row in ipairs(rows) do
    row.data = json.decode(row.data)
    for _, one in ipairs(row.data.machines) do row.off = row.off or lost[one.name] end
  end
  if options.json then return print_json(list(rows)) end
  if #rows == 0 then say "nothing is in service" end
  for _, row in ipairs(rows) do
    local machine = row.data.machines[1] or {}
    local same = row.service == last
    say("%-14s %-10s %-12s %-6s %-18s %-14s %-17s %-14s image %-16s %s", same and ""
      or row.service, same and "" or row.env, same and "" or row.cloud or "", row.version,
      machine.name or "", machine.address or "", kept_text(row),
      row.state == "serving" and row.data.address.ip or "", row.image, age(row.created))
    last = row.service
  end
  for _, row in ipairs(broken) do
    say("! the local machines' network: %s: %s; repair it: kiln up", row.name, row.message)
  end
  return 0
end

---Checks what local machines need.
---@async
---@param options table
---@return integer status
function report.doctor(options)
  local rows, ok = doctor.run(provider.driver "local")
  if options.json then
    print_json(list(rows))
  else
    for _, line in ipairs(doctor.lines(rows)) do say("%s", line) end
  end
  return ok and 0 or 1
end

return report
