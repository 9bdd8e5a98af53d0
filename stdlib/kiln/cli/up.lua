---`kiln up`: local machines run again after their host's restart, and their network is repaired:
---those of the site, of whichever project. What this folder's project kept longer than promised is
---removed, as `kiln gc --yes` would.
local error_ = require "kiln.error"
local gc = require "kiln.gc"
local project = require "kiln.project"
local provider = require "kiln.provider"
local screen = require "kiln.cli.screen"
local store_ = require "kiln.store"

local commands = {}

---Removes the machines of releases whose time is over.
---@return integer failed how many could not be removed
---@return integer removed
local function retire(driver, dir)
  if not store_.is_there(dir) then return 0, 0 end
  local store <close> = store_.open(dir, { existing = true })
  local failed, removed = 0, 0
  for _, row in ipairs(gc.find(store, driver, project.known(dir, store)).garbage) do
    if row.release then
      local ok, err = xpcall(gc.remove, error_.from, store, driver, row)
      if ok then removed = removed + 1 else failed = failed + 1 end
      screen.say("%s: machine %s %s", row.why, row.name,
        ok and "removed" or "could not be removed: " .. err.message)
    end
  end
  return failed, removed
end

---Starts what ran when this host went down, repairs the network of the machines, and removes what
---is kept no longer. Nothing is removed while something else is broken: it may be the way back.
---@async
---@param options table
---@return integer status 1 when a machine does not start, the network stays broken, or a machine
---  could not be removed
function commands.up(options)
  local driver = provider.driver "local"
  local rows, status = driver:revive(), 0
  for _, line in ipairs(provider.revived(rows)) do screen.say("%s", line) end
  for _, row in ipairs(rows) do
    if row.problem then status = 1 end
  end
  for _, row in ipairs(driver:broken()) do
    screen.say("still broken: %s: %s", row.name, row.message)
    status = 1
  end
  local removed
  if status == 0 then
    status, removed = retire(driver, options.dir or ".")
    status = math.min(status, 1)
  end
  if #rows == 0 and status == 0 and removed == 0 then
    screen.say "everything that ran when this host went down runs, and its network is whole"
  end
  return status
end

return commands
