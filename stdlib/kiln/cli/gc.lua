---`kiln gc`: shows what nothing needs any more, and removes it when told to.
local json = require "rt.json"
local timer = require "rt.timer"
local tty = require "rt.tty"
local adopt_ = require "kiln.adopt"
local error_ = require "kiln.error"
local gc = require "kiln.gc"
local project = require "kiln.project"
local screen = require "kiln.cli.screen"
local provider = require "kiln.provider"
local store_ = require "kiln.store"

local commands = {}

local say = screen.say

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
  local line = error_.check(screen.ask(("Remove these %d? [y/N] "):format(count)))
  return line ~= nil and line:lower():find("^y") ~= nil
end

local function remove_all(store, drivers, rows)
  local failed = 0
  for _, row in ipairs(rows) do
    local ok, result = xpcall(gc.remove, error_.from, store, drivers[row.provider], row)
    if ok then
      say("  ✓ %s %s %s", row.kind, row.name, result and "removed" or "was not there: forgotten")
    else
      failed = failed + 1
      say("  ✗ %s %s: %s", row.kind, row.name, result.message)
    end
  end
  return failed
end

local lists = { "garbage", "open", "lost", "unlabelled", "undecided" }

local function adopt(store, drivers, found, options)
  local count = 0
  for name, driver in pairs(drivers) do
    local mine = {}
    for _, list in ipairs { "lost", "unlabelled", "undecided" } do
      for _, row in ipairs(found[list]) do
        if row.provider == name then mine[#mine + 1] = row end
      end
    end
    count = count + #mine
    for _, line in ipairs(adopt_.rows(store, driver, mine, options.env or "default")) do
      say("  %s", line)
    end
  end
  say("%d things are in the ledger again; kiln has no host key of adopted machines, so it cannot "
    .. "log in to them: a next release replaces them", count)
  return 0
end

local function collect(store, options)
  local all, drivers = { others = {} }, {}
  for _, list in ipairs(lists) do all[list] = {} end
  local id = project.known(options.dir or ".", store)
  for _, name in ipairs(clouds_of(store, options)) do
    drivers[name] = provider.driver(name)
    local found = gc.find(store, drivers[name], id)
    for _, list in ipairs(lists) do
      table.move(found[list], 1, #found[list], #all[list] + 1, all[list])
    end
    for other, count in pairs(found.others) do
      all.others[other] = (all.others[other] or 0) + count
    end
  end
  return all, drivers, id
end

local function print_json(all)
  local out = { others = next(all.others) and all.others or nil }
  for _, list in ipairs(lists) do
    out[list] = json.array {}
    for index, row in ipairs(all[list]) do
      local plain = {}
      for key, value in pairs(row) do plain[key] = key ~= "row" and value or nil end
      out[list][index] = plain
    end
  end
  screen.json(out)
end

local function print_all(all, id)
  show("-", all.garbage)
  show("·", all.open)
  show("?", all.lost)
  show("?", all.unlabelled)
  show("!", all.undecided)
  if #all.lost + #all.unlabelled > 0 then
    say "  ? is of another checkout or of a lost state file: `kiln gc --adopt` takes it in"
  end
  if id then return end
  for other, count in pairs(all.others) do
    say("  project %s has %d things there: if this folder is that project, write `id = %s` into a "
      .. "file kiln.project here, then `kiln gc --adopt`", other, count, other)
  end
end

---Shows what belongs to no run and no release, and removes it.
---@async
---@param options table
---@return integer status 1 when something could not be removed
function commands.gc(options)
  local store <close> = store_.open(options.dir or ".", { existing = not options.adopt })
  local all, drivers, id = collect(store, options)
  if options.json then print_json(all) else print_all(all, id) end
  if options.adopt then return adopt(store, drivers, all, options) end
  if #all.garbage == 0 then
    if options.yes then gc.sweep_keys(store) end
    if not options.json then say "nothing to remove" end
    return 0
  end
  if not may_remove(options, #all.garbage) then
    if not options.json then say("%d to remove: kiln gc --yes", #all.garbage) end
    return 0
  end
  local failed = remove_all(store, drivers, all.garbage)
  gc.sweep_keys(store)
  return failed == 0 and 0 or 1
end

return commands
