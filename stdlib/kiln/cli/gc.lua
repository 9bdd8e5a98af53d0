---`kiln gc`: shows what nothing needs any more, and removes it when told to.
local json = require "rt.json"
local timer = require "rt.timer"
local tty = require "rt.tty"
local error_ = require "kiln.error"
local gc = require "kiln.gc"
local provider = require "kiln.provider"
local store_ = require "kiln.store"

local commands = {}

local function say(format, ...)
  io.stdout:write(format:format(...), "\n")
end

local function age(time)
  local passed = timer.time() - (time or timer.time())
  for _, unit in ipairs { { 86400, "d" }, { 3600, "h" }, { 60, "min" } } do
    if passed >= unit[1] then return ("%d %s"):format(passed // unit[1], unit[2]) end
  end
  return ("%d s"):format(math.max(passed, 0) // 1)
end

local function show(mark, rows)
  for _, row in ipairs(rows) do
    say("  %s %-8s %-28s %-13s %7s  %s%s", mark, row.kind, row.name, row.provider, age(row.created),
      row.why, row.monthly and ("  $%.2f/month"):format(row.monthly) or "")
  end
end

---The clouds to look at: the one that is named, else those that the ledger knows.
local function clouds_of(store, options)
  if options.cloud then return { options.cloud } end
  local names, seen = {}, {}
  for _, row in ipairs(store:ledger()) do
    if not seen[row.provider] and row.state ~= "gone" then names[#names + 1] = row.provider end
    seen[row.provider] = true
  end
  if #names == 0 then names[1] = "local" end
  return names
end

local function may_remove(options, count)
  if options.yes then return true end
  if options.no_input or options.json or not (tty.is_tty(0) and tty.is_tty(2)) then return false end
  local line = error_.check(tty.read_line(("Remove these %d? [y/N] "):format(count)))
  return line ~= nil and line:lower():find("^y") ~= nil
end

local function remove_all(store, drivers, rows)
  local failed = 0
  for _, row in ipairs(rows) do
    local ok, err = xpcall(gc.remove, error_.from, store, drivers[row.provider], row)
    if ok then
      say("  ✓ %s %s removed", row.kind, row.name)
    else
      failed = failed + 1
      say("  ✗ %s %s: %s", row.kind, row.name, err.message)
    end
  end
  return failed
end

local function adopt(store, drivers, foreign, options)
  local releases = 0
  for name, driver in pairs(drivers) do
    local mine = {}
    for _, row in ipairs(foreign) do
      if row.provider == name then mine[#mine + 1] = row end
    end
    releases = releases + gc.adopt(store, driver, mine, options.env or "default")
  end
  say("%d things are in the ledger again, %d services have their release", #foreign, releases)
  return 0
end

local function collect(store, options)
  local all, drivers = { garbage = {}, open = {}, foreign = {} }, {}
  for _, name in ipairs(clouds_of(store, options)) do
    drivers[name] = provider.driver(name)
    for list, rows in pairs(gc.find(store, drivers[name])) do
      table.move(rows, 1, #rows, #all[list] + 1, all[list])
    end
  end
  return all, drivers
end

---Shows what belongs to no run and no release, and removes it.
---@async
---@param options table
---@return integer status 1 when something could not be removed
function commands.gc(options)
  local store <close> = store_.open(options.dir or ".", { existing = not options.adopt })
  local all, drivers = collect(store, options)
  if options.json then
    for _, rows in pairs(all) do json.array(rows) end
    say("%s", json.encode(all, { bytes = "replace" }))
  else
    show("-", all.garbage)
    show("·", all.open)
    show("?", all.foreign)
  end
  if options.adopt then return adopt(store, drivers, all.foreign, options) end
  if #all.foreign > 0 and not options.json then
    say "  ? is of another project or of a lost state file: `kiln gc --adopt` takes it into this"
  end
  if #all.garbage == 0 then
    if not options.json then say "nothing to remove" end
    return 0
  end
  if not may_remove(options, #all.garbage) then
    if not options.json then say("%d to remove: kiln gc --yes", #all.garbage) end
    return 0
  end
  return remove_all(store, drivers, all.garbage) == 0 and 0 or 1
end

return commands
